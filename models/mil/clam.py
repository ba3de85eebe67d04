"""CLAM with a single attention branch (CLAM-SB)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.mil.bags import BagNetwork, Decision, InstanceLogits, Pooled
from models.mil.instances import at_least_float, compute_dtype
from models.mil.pooling import PooledBag, pool_in_stream
from models.mil.stkim import Hide

DROPOUT = 0.25


class _ClamAttention(nn.Module):
    """Gated attention with dropout behind both gates."""

    def __init__(self, width: int, attention_width: int) -> None:
        super().__init__()
        self.attention_a = nn.Sequential(nn.Linear(width, attention_width), nn.Tanh(), nn.Dropout(DROPOUT))
        self.attention_b = nn.Sequential(nn.Linear(width, attention_width), nn.Sigmoid(), nn.Dropout(DROPOUT))
        self.attention_c = nn.Linear(attention_width, 1)

    def forward(self, instances: Tensor) -> Tensor:
        """From n x L to scores, 1 x n."""
        scores: Tensor = self.attention_c(self.attention_a(instances) * self.attention_b(instances))
        return scores.t()


class ClamSB(BagNetwork):
    """Clustering-constrained attention (Lu et al. 2021): instances at both ends of the attention are classified too.

    Args:
        in_features: D, width of an instance.
        width: L, width of an embedded instance.
        classes: C.
        attention_width: Width A of the attention's hidden layer: 128 in the official ACMIL copy, 256 in CLAM itself.
        instances: K, how many are classified at each end.
    """

    heads = ("classifiers", "instance_classifiers")
    heads_by_module = ("instance_classifiers",)

    def __init__(
        self, in_features: int, width: int, classes: int, *, attention_width: int = 128, instances: int = 8
    ) -> None:
        super().__init__(in_features)
        embedding = (nn.Linear(in_features, width), nn.ReLU(), nn.Dropout(DROPOUT))
        self.attention_net = nn.Sequential(*embedding, _ClamAttention(width, attention_width))
        self.classifiers = nn.Linear(width, classes)
        self.instance_classifiers = nn.ModuleList(nn.Linear(width, 2) for _ in range(classes))
        self.instances = instances
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight)
                nn.init.zeros_(layer.bias)

    def pool(self, bag: Tensor, hide: Hide | None) -> Pooled:
        """Pool one bag, and classify instances at both ends of its attention."""
        if self.training or torch.is_grad_enabled():
            instances, scores = self._embed(bag)
            pooled = _pool(instances, scores, hide)
            ends = [instances[rows] for rows in self._ends(pooled.scores)]
        else:
            pooled = pool_in_stream(bag, self._embed)
            if torch.compiler.is_exporting():
                return Pooled(*pooled)  # the instances serve the loss, and how many there are would fix the program
            ends = [self._embed(bag[rows])[0] for rows in self._ends(pooled.scores)]
        return Pooled(*pooled, self._classify_ends(*ends))

    def classify(self, pooled: Tensor) -> Decision:
        """Classify the bag."""
        bag_feature = pooled[:, 0]
        return Decision(self.classifiers(bag_feature), None, bag_feature)

    def _embed(self, part: Tensor) -> tuple[Tensor, Tensor]:
        instances = self.attention_net[:3](part.to(compute_dtype(self.classifiers.weight)))
        return instances, at_least_float(self.attention_net[3](instances))

    def _ends(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Most and least attended instances. Below K instances published code fails; here the ends keep apart."""
        instances = scores.shape[1]
        count = self.instances if instances >= self.instances else instances // 2
        return scores[0].topk(count).indices, scores[0].topk(count, largest=False).indices

    def _classify_ends(self, attended: Tensor, unattended: Tensor) -> InstanceLogits:
        """From k x L at each end to logits padded to K."""
        missing = self.instances - len(attended)

        def logits(end: Tensor) -> Tensor:
            by_class = torch.stack([classifier(end) for classifier in self.instance_classifiers])
            return functional.pad(by_class, (0, 0, 0, missing))

        valid = torch.arange(self.instances, device=attended.device) < len(attended)
        return InstanceLogits(logits(attended), logits(unattended), valid)


def _pool(instances: Tensor, scores: Tensor, hide: Hide | None) -> PooledBag:
    hidden = None if hide is None else hide(scores)
    if hidden is not None:
        scores = scores.masked_fill(hidden, float("-inf"))
    attention = scores.softmax(dim=1)
    return PooledBag(attention.to(instances.dtype) @ instances, attention, scores.detach())
