"""ABMIL: one branch of attention, one classifier."""

from __future__ import annotations

from torch import Tensor

from models.mil.bags import BagNetwork, Decision, Pooled
from models.mil.layers import Classifier, DimReduction, GatedAttention
from models.mil.pooling import attention_pool
from models.mil.stkim import Hide


class ABMIL(BagNetwork):
    """Attention over instances (Ilse et al. 2018), as the official ACMIL code has it.

    AEM is this network trained with ``losses.negative_entropy`` of its attention beside the cross-entropy.

    Args:
        in_features: D, width of an instance.
        width: L, width of an embedded instance.
        classes: C.
        gated: False leaves the sigmoid gate out.
        attention_width: Width A of the attention's hidden layer.
    """

    def __init__(
        self, in_features: int, width: int, classes: int, *, gated: bool = True, attention_width: int = 128
    ) -> None:
        super().__init__(in_features)
        self.dimreduction = DimReduction(in_features, width)
        self.attention = GatedAttention(width, attention_width, branches=1, gated=gated)
        self.classifier = Classifier(width, classes)

    def pool(self, bag: Tensor, hide: Hide | None) -> Pooled:
        """Pool one bag."""
        return Pooled(*attention_pool(bag, self.attention.pooling_weights(self.dimreduction.fc1.weight), hide))

    def classify(self, pooled: Tensor) -> Decision:
        """Classify the bag."""
        bag_feature = pooled[:, 0]
        return Decision(self.classifier(bag_feature), None, bag_feature)
