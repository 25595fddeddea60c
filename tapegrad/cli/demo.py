"""Train two classifiers of handwritten digits, with gradients checked and times told."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import tapegrad as tg
from tapegrad import Tensor
from tapegrad.kernels import cache

SEED = 0
EPOCHS = 30
BATCH = 32
RATE = 0.1
MOMENTUM = 0.9
REQUIRED_ACCURACY = 0.97
REQUIRED_AGREEMENT = 1e-6
DIGITS = Path(__file__).parents[1] / "data" / "digits.npz"
PICTURE = Path("tapegrad-demo.png")

Model = Callable[..., Tensor]


def main() -> int:
    """Run the demo; the status is 1 when the gradient is wrong or the network has not learnt its digits."""
    if not cache.entries():
        print("First use on this machine: the sweeps are being compiled, for ten to twenty seconds or so\n", flush=True)
    print("A small tape, the listing of (x * x).sum():\n")
    show_small_tape()

    tg.manual_seed(SEED)
    training, heldout = load_digits()
    network_parameters = layer(64, 64) + layer(64, 10)
    error = gradient_error(network, network_parameters, training.first(BATCH))
    print(f"\nGradient beside central differences: largest relative error {error:.1e}")
    if not error <= REQUIRED_AGREEMENT:
        print(f"That is more than {REQUIRED_AGREEMENT:.0e}: the gradient is wrong")
        return 1

    print(f"\nTraining on {len(training)} images, {len(heldout)} held out")
    runs = [
        train("logistic regression", logistic_regression, layer(64, 10), training),
        train("two-layer network", network, network_parameters, training),
    ]
    print()
    for run in runs:
        times = f"{run.recording:.2f} s recording, {run.sweeping:.2f} s sweeping"
        print(f"{run.name:<20} {run.accuracy(heldout):.1%} of the held-out digits right; {times}")
    draw(runs, heldout)
    if runs[-1].accuracy(heldout) < REQUIRED_ACCURACY:
        print(f"The network has learnt less than it should: {REQUIRED_ACCURACY:.0%} are to be right")
        return 1
    return 0


# --- the data -------------------------------------------------------------------------------------------------------


@dataclass
class Digits:
    """Images, shape (n, 64), from 0 (paper) to 1 (ink), and labels, shape (n,), from 0 to 9."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: np.ndarray) -> "Digits":
        return Digits(self.images[indices], self.labels[indices])

    def first(self, count: int) -> "Digits":
        """The first `count` digits."""
        return self[np.arange(count)]


def load_digits() -> tuple[Digits, Digits]:
    """The digits shipped with the package, four fifths to train on and one fifth held out."""
    with np.load(DIGITS) as file:
        images = file["images"].reshape(-1, 64) / 16.0
        labels = file["labels"].astype(np.int64)
    digits = Digits(tg.from_numpy(images), tg.from_numpy(labels))
    order = np.random.default_rng(SEED).permutation(len(digits))
    held_out = len(digits) // 5
    return digits[order[held_out:]], digits[order[:held_out]]


# --- the models: functions of images, shape (n, 64), and parameters; they give scores, shape (n, 10) ----------------


def logistic_regression(images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Scores linear in the pixels."""
    return images @ weight + bias


def network(images: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
    """Scores linear in a hidden layer, itself a tanh of something linear in the pixels."""
    return tg.tanh(images @ weight1 + bias1) @ weight2 + bias2


def layer(inputs: int, outputs: int) -> list[Tensor]:
    """Weight and bias of a linear layer, scaled so that outputs vary as much as inputs do."""
    weight = tg.randn(inputs, outputs) / math.sqrt(inputs)
    return [weight.requires_grad_(), tg.zeros(outputs, requires_grad=True)]


def cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean of -log p(label), where p is the softmax of the scores."""
    return -tg.log_softmax(scores, dim=1)[tg.arange(len(labels)), labels].mean()


# --- training -------------------------------------------------------------------------------------------------------


@dataclass
class Run:
    """A model, what it has learnt, and how the learning went.

    Seconds of training are told apart: in Python, recording rows, and in compiled code, sweeping them.
    """

    name: str
    model: Model
    parameters: list[Tensor]
    losses: list[float] = field(default_factory=list)
    recording: float = 0.0
    sweeping: float = 0.0

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Add the time that the block takes."""
        tape, start = tg.current_tape(), time.perf_counter()
        swept = tape.sweep_seconds
        yield
        swept = tape.sweep_seconds - swept
        self.sweeping += swept
        self.recording += time.perf_counter() - start - swept

    def predict(self, digits: Digits) -> np.ndarray:
        """The likeliest label of each image, shape (n,)."""
        with tg.no_grad():
            return self.model(digits.images, *self.parameters).argmax(dim=1).numpy()

    def accuracy(self, digits: Digits) -> float:
        """The share of the images whose likeliest label is the right one."""
        return float(np.mean(self.predict(digits) == digits.labels.numpy()))


def train(name: str, model: Model, parameters: list[Tensor], digits: Digits) -> Run:
    """Stochastic gradient descent with momentum; `losses` gets the mean loss of every epoch."""
    run = Run(name, model, parameters)
    velocities = [tg.zeros_like(parameter) for parameter in parameters]
    shuffle = np.random.default_rng(SEED).permutation
    for _ in progress(run):
        total = 0.0
        for indices in np.array_split(shuffle(len(digits)), len(digits) // BATCH):
            with run.timed():
                batch = digits[indices]
                loss = cross_entropy(model(batch.images, *parameters), batch.labels)
                loss.backward()
                total += loss.item() * len(batch)
                descend(parameters, velocities)
        run.losses.append(total / len(digits))
    return run


def descend(parameters: list[Tensor], velocities: list[Tensor]) -> None:
    """One step: v <- momentum v + gradient, p <- p - rate v."""
    with tg.no_grad():
        for parameter, velocity in zip(parameters, velocities, strict=True):
            assert parameter.grad is not None
            velocity *= MOMENTUM
            velocity += parameter.grad
            parameter -= RATE * velocity
            parameter.grad = None


def progress(run: Run) -> Iterator[int]:
    """The numbers of the epochs, behind a bar that tells the loss, or plain lines where tqdm is not installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        for epoch in range(EPOCHS):
            yield epoch
            if epoch % 10 == 9:
                print(f"{run.name:<20} epoch {epoch + 1:2} of {EPOCHS}, loss {run.losses[-1]:.4f}")
        return
    with tqdm(total=EPOCHS, desc=f"{run.name:<20}", unit="epoch", disable=None) as bar:
        for epoch in range(EPOCHS):
            yield epoch
            bar.set_postfix(loss=f"{run.losses[-1]:.4f}", refresh=False)
            bar.update()


# --- what is shown --------------------------------------------------------------------------------------------------


def show_small_tape() -> None:
    """Record three numbers' sum of squares and print the rows."""
    x = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = (x * x).sum()
    print(tg.current_tape())
    y.backward()
    print(f"\nx.grad = {x.grad}")


def gradient_error(model: Model, parameters: list[Tensor], digits: Digits) -> float:
    """Largest error of the gradient in the last weight, beside central differences, relative to its largest entry."""
    step = 1e-5  # about the cube root of the rounding error: truncation and rounding then weigh the same
    *others, weight, bias = parameters

    def loss(at: Tensor) -> Tensor:
        return cross_entropy(model(digits.images, *others, at, bias), digits.labels)

    (gradient,) = tg.autograd.grad(loss(weight), [weight])
    point = weight.detach().numpy().copy()
    differences = np.empty_like(point)
    with tg.no_grad():
        for index in np.ndindex(point.shape):
            value = point[index]
            point[index] = value + step
            above = loss(tg.tensor(point)).item()
            point[index] = value - step
            below = loss(tg.tensor(point)).item()
            point[index] = value
            differences[index] = (above - below) / (2 * step)
    return float(np.abs(gradient.numpy() - differences).max() / np.abs(differences).max())


def draw(runs: list[Run], heldout: Digits) -> None:
    """Write a picture of the losses and of held-out digits, the network's mistakes first, where matplotlib is there."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(11, 5), layout="constrained")
    grid = figure.add_gridspec(1, 2, width_ratios=[1, 1.15])
    left, right = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])

    axes = left.subplots()
    for run in runs:
        axes.semilogy(range(1, EPOCHS + 1), run.losses, label=run.name)
    axes.set(xlabel="epoch", ylabel="mean cross-entropy", title="Loss in training")
    axes.grid(alpha=0.3)
    axes.legend()

    labels, predictions = heldout.labels.numpy(), runs[-1].predict(heldout)
    mistakes_first = np.argsort(predictions == labels, kind="stable")
    count = int(np.sum(predictions != labels))
    right.suptitle(f"Held-out digits: {count} mistakes of the {runs[-1].name}, then others")
    for place, index in zip(right.subplots(5, 8).flat, mistakes_first, strict=False):
        is_right = predictions[index] == labels[index]
        place.imshow(heldout.images[int(index)].numpy().reshape(8, 8), cmap="gray_r")
        place.set_title(
            f"{predictions[index]}" if is_right else f"{predictions[index]}, is {labels[index]}",
            color="black" if is_right else "red",
            fontsize=9,
        )
        place.set_axis_off()

    try:
        figure.savefig(PICTURE, dpi=120)
    except OSError as error:
        print(f"No picture: {error}")
    else:
        print(f"Losses and digits drawn in {PICTURE}")
