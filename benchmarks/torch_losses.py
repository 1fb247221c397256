"""Hash losses in PyTorch, as a PyTorch user would write them from the papers.

An independent second opinion on `ssah_jax.losses` (tests/losses/test_torch.py) and what
its cost is measured against (benchmarks/loss_cost.py). Each returns one number:

- pairwise losses: the mean over the pairs of `where` (all pairs without it); HashNet
  and DCH weigh both kinds of pairs alike, as their papers do;
- ranking losses: the mean over the rows that have what they rank: a similar and a
  dissimilar column (MIHash, DTSH), a similar one (TALR);
- pointwise losses: the mean over the rows of `where` that have a label.

Codes `u` are `[B, K]` and `v` `[M, K]`, `similar` and `where` boolean `[B, M]`, labels
multi-hot `[B, C]`, centres `[C, K]`. The equations are those of the papers named; what
a paper leaves open is decided as `ssah_jax.losses` documents it.
"""

import torch
import torch.nn.functional as F


def mean_over(values, where):
    """Mean of the values where the mask holds."""
    return values.mean() if where is None else values[where].mean()


def balanced_weights(similar, where):
    """|S|/|S1| for similar pairs, |S|/|S0| for dissimilar ones."""
    where = torch.ones_like(similar) if where is None else where
    pairs = where.sum()
    positive = (similar & where).sum().clamp(min=1)
    negative = (~similar & where).sum().clamp(min=1)
    return torch.where(similar, pairs / positive, pairs / negative)


# Pairwise.


def dsh(u, v, similar, where=None):
    """Liu et al., "Deep Supervised Hashing for Fast Image Retrieval" (CVPR 2016)."""
    margin = 2 * u.shape[1]
    distance = (u * u).sum(1)[:, None] + (v * v).sum(1)[None, :] - 2 * u @ v.T
    values = torch.where(similar, distance, F.relu(margin - distance)) / 2
    return mean_over(values, where)


def dpsh(u, v, similar, where=None):
    """Li et al., "Feature Learning based Deep Supervised Hashing" (IJCAI 2016)."""
    logits = 0.5 * u @ v.T
    return mean_over(F.softplus(logits) - similar * logits, where)


def dhn(u, v, similar, where=None):
    """Zhu et al., "Deep Hashing Network" (AAAI 2016): its pairwise cross-entropy."""
    logits = 0.5 * u @ v.T
    values = F.binary_cross_entropy_with_logits(
        logits, similar.to(logits.dtype), reduction="none"
    )
    return mean_over(values, where)


def hashnet(u, v, similar, where=None):
    """Cao et al., "HashNet: Deep Learning to Hash by Continuation" (ICCV 2017)."""
    logits = 10.0 / u.shape[1] * u @ v.T
    values = F.softplus(logits) - similar * logits
    return mean_over(values * balanced_weights(similar, where), where)


def dch(u, v, similar, where=None, gamma=20.0, limit=0.99):
    """Cao et al., "Deep Cauchy Hashing" (CVPR 2018)."""
    cosine = F.normalize(u) @ F.normalize(v).T
    distance = u.shape[1] / 2 * (1 - cosine.clamp(max=limit))
    values = similar * torch.log(distance / gamma) + torch.log1p(gamma / distance)
    return mean_over(values * balanced_weights(similar, where), where)


def logistic_pair(u, v, similar, where=None, alpha=8.0):
    """Logistic likelihood of scaled cosines (not of a paper)."""
    logits = alpha * F.normalize(u) @ F.normalize(v).T
    return mean_over(F.softplus(logits) - similar * logits, where)


# Ranking.


def soft_histogram(distance, weight, bins, width):
    """Each row's distances shared between `bins + 1` centres, `width` apart."""
    place = (distance / width).clamp(0, bins)
    low = place.detach().floor().clamp(max=bins - 1)
    share = place - low
    low = low.long()
    empty = torch.zeros(len(distance), bins + 1, dtype=distance.dtype)
    below = empty.scatter_add(1, low, weight * (1 - share))
    return below + empty.scatter_add(1, low + 1, weight * share)


def histograms(u, v, similar, where, bins):
    """Soft histograms of the distances of similar and of dissimilar columns."""
    bits = u.shape[1]
    distance = (bits - u @ v.T) / 2
    where = torch.ones_like(similar) if where is None else where
    width = bits / bins
    positive = soft_histogram(distance, (similar & where).to(u.dtype), bins, width)
    negative = soft_histogram(distance, (~similar & where).to(u.dtype), bins, width)
    return positive, negative


def entropy(p):
    """Entropy in nats of each row."""
    return -(p * torch.log(p.clamp(min=1e-12))).sum(1)


def mihash(u, v, similar, where=None):
    """Cakir et al., "MIHash: Online Hashing with Mutual Information" (ICCV 2017)."""
    positive, negative = histograms(u, v, similar, where, bins=u.shape[1])
    both = (positive.sum(1) > 0) & (negative.sum(1) > 0)
    positive, negative = positive[both], negative[both]
    size = positive.sum(1, keepdim=True), negative.sum(1, keepdim=True)
    total = size[0] + size[1]
    conditional = (
        size[0] * entropy(positive / size[0])[:, None]
        + size[1] * entropy(negative / size[1])[:, None]
    ) / total
    information = entropy((positive + negative) / total) - conditional[:, 0]
    return -information.mean()


def talr(u, v, similar, where=None):
    """He et al., "Hashing as Tie-Aware Learning to Rank" (CVPR 2018): 1 - AP_r."""
    bits = u.shape[1]
    bins = bits // 2 if bits >= 32 else bits
    positive, negative = histograms(u, v, similar, where, bins)
    some = positive.sum(1) > 0
    positive, every = positive[some], (positive + negative)[some]
    hits, seen = positive.cumsum(1), every.cumsum(1)
    # C_{d-1} + C_d = 2 C_d - c_d.
    precision = (2 * hits - positive + 1) / (2 * seen - every + 1)
    average = (positive * precision).sum(1) / positive.sum(1)
    return 1 - average.mean()


def dtsh(u, v, similar, where=None, margin=5.0):
    """Wang et al., "Deep Supervised Hashing with Triplet Labels" (ACCV 2016)."""
    inner = u @ v.T
    where = torch.ones_like(similar) if where is None else where
    values = []
    for row, alike, use in zip(inner, similar, where, strict=True):
        positive, negative = row[alike & use], row[~alike & use]
        if len(positive) and len(negative):
            triplets = positive[:, None] - negative[None, :] - margin
            values.append(F.softplus(-triplets).mean())
    return torch.stack(values).mean() if values else inner.sum() * 0


def dtsh_sampled(u, v, similar, draws=50, margin=5.0):
    """DTSH on all pairs of `draws` similar and `draws` dissimilar columns of a row."""
    inner = u @ v.T
    some = similar.any(1) & ~similar.all(1)
    inner, similar = inner[some], similar[some]
    positive = torch.multinomial(similar.float(), draws, replacement=True)
    negative = torch.multinomial((~similar).float(), draws, replacement=True)
    positive, negative = inner.gather(1, positive), inner.gather(1, negative)
    triplets = positive[:, :, None] - negative[:, None, :] - margin
    return F.softplus(-triplets).mean()


# Pointwise.


def labelled(labels, where):
    """Rows with a label, of those of `where`."""
    return labels.any(1) if where is None else labels.any(1) & where


def greedyhash(u, labels, classifier, where=None):
    """Su et al., "Greedy Hash" (NeurIPS 2018): cross-entropy of sign(u)."""
    code = torch.where(u >= 0, 1.0, -1.0).to(u.dtype)
    code = u + (code - u).detach()
    target = labels / labels.sum(1, keepdim=True).clamp(min=1)
    values = F.cross_entropy(code @ classifier.T, target, reduction="none")
    return values[labelled(labels, where)].mean()


def csq(u, labels, centres, ties, where=None):
    """Yuan et al., "Central Similarity Quantization" (CVPR 2020)."""
    votes = labels @ centres
    centre = torch.where(votes == 0, ties, votes.sign())
    values = F.binary_cross_entropy(
        (torch.tanh(u) + 1) / 2, (centre + 1) / 2, reduction="none"
    )
    return values.mean(1)[labelled(labels, where)].mean()


def dpn(u, labels, centres, where=None, margin=1.0):
    """Fan et al., "Deep Polarized Network" (IJCAI 2020)."""
    # Targets are +-1, so the hinges of all classes of an image are two, counted.
    up, down = labels @ (centres > 0).to(u.dtype), labels @ (centres < 0).to(u.dtype)
    values = (up * F.relu(margin - u) + down * F.relu(margin + u)).sum(1)
    return values[labelled(labels, where)].mean()


def orthohash(u, labels, centres, where=None, scale=8.0, margin=0.2):
    """Hoe et al., "One Loss for All" (NeurIPS 2021)."""
    cosine = F.normalize(u) @ F.normalize(centres).T
    target = labels / labels.sum(1, keepdim=True).clamp(min=1)
    values = F.cross_entropy(
        scale * (cosine - margin * labels), target, reduction="none"
    )
    return values[labelled(labels, where)].mean()


PAIRWISE = {
    "dsh": dsh,
    "dpsh": dpsh,
    "dhn": dhn,
    "hashnet": hashnet,
    "dch": dch,
    "logistic_pair": logistic_pair,
}
RANKING = {"mihash": mihash, "talr": talr, "dtsh": dtsh}
POINTWISE = {
    "greedyhash": greedyhash,
    "csq": csq,
    "dpn": dpn,
    "orthohash": orthohash,
}
