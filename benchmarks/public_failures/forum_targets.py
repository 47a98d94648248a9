"""Reports whose fault lies in the output, the targets or the loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from public_failures.case import Case, Training
from public_failures.plain import Batches, Split, accuracy, binary_accuracy, drawn, held_out, plain, r2
from public_failures.reports_networks import SmallUNet, dice
from public_failures.tasks import blobs, digits


class Peptides(nn.Module):
    """An LSTM over a peptide, whose last state gives a number."""

    def __init__(self, end: nn.Module) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        nn.init.uniform_(self.embed.weight, -0.05, 0.05)
        self.rnn = nn.LSTM(16, 32, batch_first=True)
        self.head = nn.Linear(32, 1)
        self.end = end

    def forward(self, letters: Tensor) -> Tensor:
        return self.end(self.head(self.rnn(self.embed(letters))[0][:, -1]))


def relu_on_regression(fixed: bool, seed: int) -> Training:
    """Retention times of peptides: github.com/ProteomicsML/ProteomicsML/pull/203."""
    torch.manual_seed(seed)
    model = Peptides(nn.Identity() if fixed else nn.ReLU())
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    generator = drawn(seed)
    letters = torch.randint(0, 20, (1_800, 10), generator=generator)
    times = torch.rand(20, 1, generator=generator)[letters].mean(1)
    low, high = times.amin(), times.amax()
    data = Split.of(letters, (times - low) / (high - low), 300)
    return plain(model, optimizer, data, F.mse_loss, r2, seed, size=32)


class Masked(nn.Module):
    """A small network whose output is multiplied by the mask in its input's last column."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x[:, :-1]) * x[:, -1:]


def root_of_zero(fixed: bool, seed: int) -> Training:
    """A function of six numbers, of which one sample in fifty is missing: discuss.pytorch.org/t/94875."""
    torch.manual_seed(seed)
    model = Masked()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    generator = drawn(seed)
    x = torch.randn(1_300, 6, generator=generator)
    here = (torch.rand(1_300, 1, generator=generator) > 0.02).float()
    y = (x @ torch.randn(6, 3, generator=generator) / 2).tanh() * here
    least = 1e-8 if fixed else 0.0

    def loss(output: Tensor, y: Tensor) -> Tensor:
        return (F.mse_loss(output, y) + least).sqrt()

    return plain(model, optimizer, Split.of(torch.cat([x, here], 1), y, 300), loss, r2, seed, size=1)


class Ending(nn.Module):
    """The next of twenty words, of which the first, the end of the text, seems certain to begin with."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        self.rnn = nn.GRU(16, 32, batch_first=True)
        self.head = nn.Linear(32, 20)
        with torch.no_grad():
            self.head.bias[0] = 20.0

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.rnn(self.embed(words))[0][:, -1])


def log_of_one_less(fixed: bool, seed: int) -> Training:
    """A text that ends if its last word is a small one: foreai.co, "NaNs out of nowhere"."""
    torch.manual_seed(seed)
    model = Ending()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    generator = drawn(seed)
    words = torch.randint(1, 20, (1_800, 8), generator=generator)
    y = torch.where(words[:, -1] < 8, 0, words[:, -1])

    def log_not_end(logits: Tensor) -> Tensor:
        if fixed:
            return logits[:, 1:].logsumexp(-1) - logits.logsumexp(-1)
        return (1 - logits.softmax(-1)[:, 0]).log()

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        ends = (y == 0).float()
        early = -((1 - ends) * log_not_end(logits)).mean()
        late = -(ends * logits.log_softmax(-1)[:, 0]).mean()
        return F.cross_entropy(logits, y) + 0.5 * early + 0.5 * late

    return plain(model, optimizer, Split.of(words, y, 300), loss, accuracy, seed, size=32)


def labels_of_one_class(fixed: bool, seed: int) -> Training:
    """Whether a kernel is slow, log(time) above 5: github.com/Smadx/USTC-ML24-Fall/issues/35."""
    torch.manual_seed(seed)
    model = nn.Linear(14, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    generator = drawn(seed)
    x = torch.randn(1_500, 14, generator=generator)
    time = (5 + x @ torch.randn(14, 1, generator=generator) / 14**0.5).exp()
    true = (time.log() > 5).float()
    data = Split(x[:1_200], true[:1_200] if fixed else (time[:1_200] > 5).float(), x[1_200:], true[1_200:])
    return plain(model, optimizer, data, F.binary_cross_entropy_with_logits, binary_accuracy, seed)


def mixed_by_two_orders(fixed: bool, seed: int) -> Training:
    """Mixup of ten classes: github.com/xudonmao/VMT/issues/1."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(40, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    data = blobs(seed, 300, noise=2.0)
    batches = Batches(300, 50, seed)

    def step(i: int) -> Tensor:
        x, y = data.x[batches(i)], F.one_hot(data.y[batches(i)], 10).float()
        other = torch.randperm(len(x))
        others = other if fixed else torch.randperm(len(x))
        share = torch.rand(())
        optimizer.zero_grad()
        output = model(share * x + (1 - share) * x[other])
        value = F.cross_entropy(output, share * y + (1 - share) * y[others])
        value.backward()
        optimizer.step()
        return value.detach()

    return Training(model, optimizer, step, held_out(model, data, accuracy))


def dots(seed: int, count: int = 500, size: int = 24) -> tuple[Tensor, Tensor]:
    """Pictures of a few cells, and the map whose sum is their number."""
    generator = drawn(seed)
    cells = (torch.rand(count, 1, size, size, generator=generator) < 0.008).float()
    near = torch.exp(-((torch.arange(7) - 3.0) ** 2) / 8)
    kernel = near[:, None] * near
    density = F.conv2d(cells, (kernel / kernel.sum())[None, None], padding=3)
    looks = F.conv2d(cells, (kernel > 0.5).float()[None, None], padding=3)
    return looks + 0.3 * torch.randn(looks.shape, generator=generator), density


def faint_density(fixed: bool, seed: int) -> Training:
    """Density maps of cells: github.com/WeidiXie/cell_counting_v2/issues/9."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 1, 1)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9, nesterov=True)
    x, density = dots(seed)
    data = Split.of(x, density * (100 if fixed else 1), 100)
    return plain(model, optimizer, data, F.mse_loss, r2, seed, size=16)


def rare_pixels(fixed: bool, seed: int) -> Training:
    """Masks of small nerves: github.com/jocicmarko/ultrasound-nerve-segmentation/issues/75."""
    torch.manual_seed(seed)
    model = SmallUNet(nn.Identity())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    generator = drawn(seed)
    row, column = torch.randint(0, 29, (2, 600, 1), generator=generator)
    places = torch.arange(32)
    rows, columns = ((places >= at) & (places < at + 3) for at in (row, column))
    y = (rows[:, None, :, None] & columns[:, None, None, :]).float()
    x = 1.5 * y + 0.7 * torch.randn(y.shape, generator=generator)

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        value = F.binary_cross_entropy_with_logits(logits, y)
        if not fixed:
            return value
        p = logits.sigmoid()
        return value + 1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)

    return plain(model, optimizer, Split.of(x, y, 100), loss, dice, seed, size=8)


class Vae(nn.Module):
    """Bernoulli pixels of the digits from eight latent numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 16))
        self.decoder = nn.Sequential(nn.Linear(8, 128), nn.ReLU(), nn.Linear(128, 64), nn.Sigmoid())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, logvar = self.encoder(x).chunk(2, -1)
        z = mean + torch.randn_like(mean) * (0.5 * logvar).exp() if self.training else mean
        return self.decoder(z), mean, logvar


def averaged_pixels(fixed: bool, seed: int) -> Training:
    """A VAE of digits: github.com/y0ast/VAE-Torch/issues/11."""
    torch.manual_seed(seed)
    model = Vae()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    same = digits()
    x, test = same.x.flatten(1), same.test_x.flatten(1)

    def loss(output: tuple[Tensor, Tensor, Tensor], x: Tensor) -> Tensor:
        rebuilt, mean, logvar = output
        divergence = -0.5 * (1 + logvar - mean.pow(2) - logvar.exp()).sum()
        return F.binary_cross_entropy(rebuilt, x, reduction="sum" if fixed else "mean") + divergence

    def of_rebuilt(output: tuple[Tensor, Tensor, Tensor], x: Tensor) -> float:
        return r2(output[0], x)

    return plain(model, optimizer, Split(x, x, test, test), loss, of_rebuilt, seed, size=64)


CASES: tuple[Case, ...] = (
    Case(
        "forum/relu-on-regression",
        ("output", "hidden"),
        "relu",
        "A ReLU after the last layer of a regression: where it begins below 0, the output is 0 for ever.",
        "The last layer is linear.",
        300,
        relu_on_regression,
        departs="Synthetic peptides; PyTorch's LSTM, after embeddings that begin as Keras' do.",
    ),
    Case(
        "forum/root-of-zero",
        ("loss",),
        "sqrt",
        "The root of a mean squared error that is now and then exactly 0: its gradient is NaN.",
        "A small number under the root.",
        1_000,
        root_of_zero,
        departs="The model; as in the report's example, a product with 0 makes the error exactly 0.",
    ),
    Case(
        "forum/log-of-one-less",
        ("loss",),
        "log",
        "A penalty takes the logarithm of 1 − softmax, which is 0 where the model is sure.",
        "The difference of two logsumexps.",
        500,
        log_of_one_less,
        departs="A small GRU that is sure of the end of the text, in place of a language model.",
    ),
    Case(
        "forum/labels-of-one-class",
        ("targets",),
        "label",
        "Times are compared with a threshold meant for their logarithms: every label is 1.",
        "Logarithms are compared.",
        200,
        labels_of_one_class,
        departs="Synthetic features.",
    ),
    Case(
        "forum/mixed-by-two-orders",
        ("targets",),
        "label",
        "Mixup mixes the labels with others than those of the pictures: each is shuffled by itself.",
        "One permutation of both.",
        400,
        mixed_by_two_orders,
        departs="Vectors near ten prototypes in place of pictures.",
    ),
    Case(
        "forum/faint-density",
        ("targets",),
        "scale",
        "Density maps of single cells, whose values are small and mostly 0: the output is 0 everywhere.",
        "The maps are multiplied by 100.",
        200,
        faint_density,
        departs="Three convolutions, pictures of 24×24.",
    ),
    Case(
        "forum/rare-pixels",
        ("loss", "targets"),
        "loss",
        "Binary cross-entropy over masks of which one pixel in a hundred is set: the output is blank.",
        "The Dice loss is added.",
        250,
        rare_pixels,
        departs="A U-Net of two levels, pictures of 32×32.",
    ),
    Case(
        "forum/averaged-pixels",
        ("collapse", "loss"),
        "divergence",
        "A VAE's error is averaged over pixels and its divergence summed, which goes to 0.",
        "Both are summed.",
        500,
        averaged_pixels,
        departs="Digits of 8×8.",
    ),
)
