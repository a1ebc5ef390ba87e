"""S4NN as its authors published it (arXiv 1910.09495), in plain numpy, one image and one step at a time."""

from dataclasses import dataclass

import numpy as np

T, GRAY_LEVELS, GAMMA = 256, 255, 3
LEARNING_RATE, DECAY = 0.2, 1e-6


@dataclass
class S4nn:
    """Two layers of weights ``(neurons, inputs)``; everything is float64."""

    hidden: np.ndarray
    output: np.ndarray
    threshold: float

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        return np.array([((GRAY_LEVELS - int(p)) * T) // GRAY_LEVELS for p in pixels])

    def fire(self, times: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Strict threshold; the spike leaves one step after the crossing; at T everyone fires."""
        out = np.full(len(weights), -1)
        V = np.zeros(len(weights))
        for t in range(T):
            for i in np.flatnonzero(times == t):
                V = V + weights[:, i]
            for j in range(len(weights)):
                if V[j] > self.threshold and out[j] == -1:
                    out[j] = t + 1
        out[out == -1] = T
        return out

    def targets(self, times: np.ndarray, label: int) -> np.ndarray:
        m = times.min()
        targets = times.copy()
        if m == T:
            targets[:] = T
            targets[label] = T - GAMMA
            return targets
        for j in range(len(times)):
            if times[j] - m < GAMMA:
                targets[j] = min(m + GAMMA, T)
        targets[label] = m
        return targets

    def step(self, weights: np.ndarray, delta: np.ndarray, t_in: np.ndarray, t_out: np.ndarray) -> None:
        """``w_ji -= eta delta_j [t_i < t_j]``, then ``w -= eta lambda w``, in place."""
        for j in range(len(weights)):
            for i in range(len(t_in)):
                if t_in[i] < t_out[j]:
                    weights[j, i] -= LEARNING_RATE * delta[j]
        weights -= LEARNING_RATE * DECAY * weights

    def train(self, pixels: np.ndarray, label: int, updated_output: bool = True) -> list[np.ndarray]:
        """Learn from one image; return the times of the three layers before the update."""
        t_in = self.encode(pixels)
        t_hidden = self.fire(t_in, self.hidden)
        t_out = self.fire(t_hidden, self.output)
        delta = normalised((self.targets(t_out, label) - t_out) / T)
        before = self.output.copy()
        self.step(self.output, delta, t_hidden, t_out)
        read = self.output if updated_output else before
        delta_hidden = np.zeros(len(t_hidden))
        for i in range(len(t_hidden)):
            for j in range(len(t_out)):
                if t_hidden[i] < t_out[j]:
                    delta_hidden[i] += delta[j] * read[j, i]
        self.step(self.hidden, normalised(delta_hidden), t_in, t_hidden)
        return [t_in, t_hidden, t_out]


def normalised(delta: np.ndarray) -> np.ndarray:
    norm = np.sqrt((delta**2).sum())
    return delta / norm if norm > 0 else delta


def draw_image(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return uint8 pixels, half of them black and a few white."""
    kind = rng.random(size)
    pixels = rng.integers(0, 256, size)
    return np.where(kind < 0.5, 0, np.where(kind < 0.52, 255, pixels)).astype(np.uint8)
