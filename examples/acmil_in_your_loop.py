"""ACMIL in an ordinary PyTorch loop: no recipe, no Lightning, only `models`.

A bag holds 50 digits of scikit-learn's scans, each described by its 64 pixels; it is positive if there are nines among
them. Training sees only the label of the bag. Test bags are drawn from scans that no training bag holds.

    python examples/acmil_in_your_loop.py
"""

import torch
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from models.mil.acmil import AcmilGA
from models.mil.losses import bag_loss, branch_loss, diversity_loss, negative_entropy
from models.mil.stkim import InstanceMasking, MaskSampler

SIZE, NINES = 50, 5


def digit_bags(scans: torch.Tensor, digits: torch.Tensor, bags: int, generator: torch.Generator) -> torch.Tensor:
    """Draw bags, alternately without and with nines: bags x SIZE x 64."""
    nines, others = scans[digits == 9], scans[digits != 9]

    def draw(pool: torch.Tensor, count: int) -> torch.Tensor:
        return pool[torch.randint(len(pool), (count,), generator=generator)]

    drawn = []
    for number in range(bags):
        nine_count = NINES * (number % 2)
        bag = torch.cat([draw(nines, nine_count), draw(others, SIZE - nine_count)])
        drawn.append(bag[torch.randperm(SIZE, generator=generator)])
    return torch.stack(drawn)


def main(epochs: int = 10, seed: int = 0) -> tuple[list[float], float]:
    """Train and test; returns the training loss of each epoch and the AUROC on 200 test bags."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    scans, digits = load_digits(return_X_y=True)
    pixels, digits = torch.tensor(scans, dtype=torch.float32) / 16, torch.tensor(digits)
    train_scans, test_scans, train_digits, test_digits = train_test_split(
        pixels, digits, test_size=0.3, stratify=digits, random_state=0
    )
    train_bags = digit_bags(train_scans, train_digits, 100, generator)
    test_bags = digit_bags(test_scans, test_digits, 200, generator)
    train_labels, test_labels = torch.arange(100) % 2, torch.arange(200) % 2

    model = AcmilGA(in_features=64, width=64, classes=2, branches=5)
    # Hides some of the instances that attract most attention; fewer than the nines of a bag, or nothing can be learned.
    sampler = MaskSampler(InstanceMasking(top_k=4, drop_ratio=0.5), seed=seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-5)
    losses = []
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for index in torch.randperm(len(train_bags)).split(1):  # one bag a step, as published
            bags, labels = train_bags[index], train_labels[index]
            output = model(bags, hidden=sampler.draw(len(bags), model.map_shape))
            spread = diversity_loss(output.attention) + 0.05 * negative_entropy(output.attention)
            loss = bag_loss(output.bag_logits, labels) + branch_loss(output.branch_logits, labels) + spread
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        losses.append(total / len(train_bags))
        print(f"epoch {epoch + 1}/{epochs}  training loss {losses[-1]:.3f}")

    model.eval()
    with torch.no_grad():
        scores = model(test_bags).bag_logits.softmax(dim=1)[:, 1]
    auroc = float(roc_auc_score(test_labels, scores))
    print(f"AUROC on {len(test_labels)} test bags: {auroc:.3f}")
    return losses, auroc


if __name__ == "__main__":
    main()
