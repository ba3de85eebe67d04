"""Bags without a recipe's tables, to predict on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vision_train.data.bags.dataset import BagDataset
from vision_train.data.bags.index import index_bags
from vision_train.data.bags.samples import FeatureKind, check_feature_kind, feature_kind, join_bags
from vision_train.data.dataset import SampleLoader, sample_loader
from vision_train.data.sampler import EvaluationSampler
from vision_train.recipe.data_section import Data


def loose_bags(data: Data, roots: Sequence[Path], *, learner: str, skip_with: str) -> SampleLoader:
    """Load bags one at a time, without labels, in this process: no two of them need to fit into memory together.

    Args:
        data: Of the recipe that the network was trained with: what its features were, and the policy for bad bags.
        roots: Folders and files of features.
        learner: What messages call the network.
        skip_with: What the user does to have bad bags skipped, for the message.

    Returns:
        Loader of batches of one bag. ``loader.dataset.skipped`` has the bags that could not be used so far, with the
        reasons.

    Raises:
        UserError: A folder holds no features, bags cannot be used or share an id, or their features are not of the kind
            that the network learned from.
    """
    joined = join_bags(index_bags(*roots), on_bad_bag=data.on_bad_bag, labelled=False, skip_with=skip_with)
    check_feature_kind(feature_kind(joined.samples), FeatureKind(data.feature_width, data.encoder), learner)
    unlabelled = [replace(sample, label=None) for sample in joined.samples]
    dataset = BagDataset(unlabelled, [], data.on_bad_bag, skip_with)
    dataset.skipped.update(joined.skipped)
    return sample_loader(dataset, EvaluationSampler(len(dataset)), batch_size=1, workers=0)
