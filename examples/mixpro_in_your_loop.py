"""MixPro in an ordinary PyTorch loop: no recipe, no Lightning, only `augment` and `models`.

A small ViT learns scikit-learn's digits. Each batch is mixed with its own images; MaskMix batches share their labels
by the network's attention as its predictions improve (progressive labels), the others by area.

    python examples/mixpro_in_your_loop.py
"""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.nn.functional import cross_entropy, interpolate

from augment.labels import attention_share, mix_targets, progressive_share, soft_targets
from augment.mixing import Mix, Mixer, mix_images, own_share
from models.attention_row import attention_source, predict_with_attention
from models.timm_attention import install_attention
from models.vit import build_model

CLASSES, SIDE, SMOOTHING = 10, 16, 0.1


def digits() -> tuple[torch.Tensor, ...]:
    """Training images (B 1 16 16), test images, training labels and test labels."""
    scans, labels = load_digits(return_X_y=True)
    images = interpolate(torch.tensor(scans, dtype=torch.float32).view(-1, 1, 8, 8) / 8 - 1, size=SIDE, mode="bicubic")
    return train_test_split(images, torch.tensor(labels), test_size=500, stratify=labels, random_state=0)


def mixed_loss(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, mix: Mix | None) -> torch.Tensor:
    """Cross-entropy of one batch, mixed as drawn."""
    smoothed = soft_targets(labels, CLASSES, SMOOTHING)
    if mix is None:
        return cross_entropy(model(images), smoothed)
    mixed, by_area = mix_images(images, mix), mix_targets(smoothed, mix.partner, mix.share)
    if mix.kind != "maskmix":
        return cross_entropy(model(mixed), by_area)
    logits, attention = predict_with_attention(model, mixed)
    own = own_share(mix, attention_source(model, SIDE).grid, (SIDE, SIDE))
    attended = attention_share(own, attention, mix.share)
    share, _ = progressive_share(logits, by_area, mix.share, attended)
    # MixPro smooths the labels inside the cosine of `progressive_share`, not those of the loss.
    return cross_entropy(logits, mix_targets(soft_targets(labels, CLASSES), mix.partner, share))


def main(epochs: int = 20, seed: int = 0) -> tuple[list[float], float]:
    """Train and test; returns the training loss of each epoch and the accuracy on 500 test images."""
    torch.manual_seed(seed)
    train_images, test_images, train_labels, test_labels = digits()
    shape = {"patch_size": 4, "in_chans": 1, "embed_dim": 96, "depth": 4, "num_heads": 3}
    model = build_model("vit", num_classes=CLASSES, image_size=SIDE, **shape)
    install_attention(model)  # required by predict_with_attention
    mixer = Mixer(
        maskmix=0.25, mixup=0.125, cutmix=0.125,  # shares of the batches; half of them stay unmixed
        maskmix_alpha=1.0, mixup_alpha=0.8, cutmix_alpha=1.0, mask_patch=4, partner="permutation", seed=seed,
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    losses = []
    for epoch in range(epochs):
        model.train()
        total, batches = 0.0, torch.randperm(len(train_images)).split(64)
        for batch in batches:
            images, labels = train_images[batch], train_labels[batch]
            loss = mixed_loss(model, images, labels, mixer.draw(len(images), SIDE, SIDE))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        losses.append(total / len(batches))
        print(f"epoch {epoch + 1}/{epochs}  training loss {losses[-1]:.3f}")

    model.eval()
    with torch.no_grad():
        accuracy = (model(test_images).argmax(dim=1) == test_labels).float().mean().item()
    print(f"accuracy on {len(test_labels)} test images: {accuracy:.3f}")
    return losses, accuracy


if __name__ == "__main__":
    main()
