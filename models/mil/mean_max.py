"""Bags without attention: the mean and the maximum over instances."""

from __future__ import annotations

import torch
from torch import Tensor

from models.mil.bags import BagNetwork, Decision, Pooled
from models.mil.instances import at_least_float, compute_dtype, split_bag
from models.mil.layers import Classifier, DimReduction
from models.mil.stkim import Hide


class _Pooling(BagNetwork):
    """Embeds instances, classifies each by one linear layer, and pools the logits."""

    attends = hides = False

    def __init__(self, in_features: int, width: int, classes: int) -> None:
        super().__init__(in_features)
        self.dimreduction = DimReduction(in_features, width)
        self.classifier = Classifier(width, classes)

    def embed(self, part: Tensor) -> Tensor:
        """From n x D to n x L."""
        weight = self.dimreduction.fc1.weight
        embedded: Tensor = self.dimreduction.fc1(part.to(compute_dtype(weight)))
        return embedded.relu_()


class MeanMIL(_Pooling):
    """The mean of the instances' logits, computed as the logits of their mean.

    Args:
        in_features: D, width of an instance.
        width: L, width of an embedded instance.
        classes: C.
    """

    def pool(self, bag: Tensor, hide: Hide | None) -> Pooled:
        """Average the embedded instances."""
        sums = [at_least_float(self.embed(part)).sum(dim=0, keepdim=True) for part in split_bag(bag)]
        mean = torch.cat(sums).sum(dim=0, keepdim=True) / bag.shape[0]  # len() would fix the number in a traced program
        return Pooled(mean.to(compute_dtype(self.classifier.fc.weight)))

    def classify(self, pooled: Tensor) -> Decision:
        """Classify the bag."""
        bag_feature = pooled[:, 0]
        return Decision(self.classifier(bag_feature), None, bag_feature)


class MaxMIL(_Pooling):
    """For each class the highest logit of any instance.

    Args:
        in_features: D, width of an instance.
        width: L, width of an embedded instance.
        classes: C.
    """

    def pool(self, bag: Tensor, hide: Hide | None) -> Pooled:
        """Take the highest logits."""
        highest = [self.classifier(self.embed(part)).amax(dim=0, keepdim=True) for part in split_bag(bag)]
        return Pooled(torch.cat(highest).amax(dim=0, keepdim=True))

    def classify(self, pooled: Tensor) -> Decision:
        """Nothing is left to do."""
        return Decision(pooled[:, 0], None, None)
