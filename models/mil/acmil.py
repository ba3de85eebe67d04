"""ACMIL with gated attention (ACMIL-GA), the default of its authors."""

from __future__ import annotations

from torch import Tensor

from models.mil.bags import BagNetwork, Decision, Pooled
from models.mil.layers import Classifier, DimReduction, GatedAttention, branch_classifiers, classify_branches
from models.mil.pooling import attention_pool
from models.mil.stkim import Hide


class AcmilGA(BagNetwork):
    """Gated attention in several branches, each with a classifier of its own; the bag is what they see on average.

    Branches share the embedding and V and U of the attention. The bag feature is the mean of the branch features,
    which is the bag pooled by the mean of their attentions.

    Args:
        in_features: D, width of an instance.
        width: L, width of an embedded instance.
        classes: C.
        branches: T. A single branch has no classifier beside that of the bag: it is ABMIL.
        attention_width: Width A of the attention's hidden layer.
    """

    heads = ("classifier", "Slide_classifier")

    def __init__(
        self, in_features: int, width: int, classes: int, *, branches: int = 5, attention_width: int = 128
    ) -> None:
        super().__init__(in_features, (branches,))
        self.dimreduction = DimReduction(in_features, width)
        self.attention = GatedAttention(width, attention_width, branches)
        self.classifier = branch_classifiers(width, classes, branches)
        self.Slide_classifier = Classifier(width, classes)

    def pool(self, bag: Tensor, hide: Hide | None) -> Pooled:
        """Pool one bag in T branches."""
        return Pooled(*attention_pool(bag, self.attention.pooling_weights(self.dimreduction.fc1.weight), hide))

    def classify(self, pooled: Tensor) -> Decision:
        """Classify branches and bag."""
        bag_feature = pooled.mean(dim=1)
        branch_logits = classify_branches(self.classifier, pooled)
        return Decision(self.Slide_classifier(bag_feature), branch_logits, bag_feature)
