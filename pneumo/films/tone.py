"""Which value of a film is black and which is white: one rule for every format; and when its tone leaves it in doubt.

Some values have a scale: 8 bits, a DICOM window or a table say which value is white. The scale is kept, unless the film
fills less than LEAST of it, as under a window for other values. 16-bit pictures and DICOM files without a window have
no scale: their own darkest value becomes black, their brightest white. Hot pixels and burned-in letters do not count.
"""

import numpy as np

ENDS = 0.0001  # share of the pixels at either end that may lie beyond black and white
FENCE = 3.0  # letters lie beyond so many distances from median to 5th or 95th percentile; of 3,200 films nothing
LEAST = 0.5  # share of its scale that a film fills; 99 % of those 3,200 fill 0.58 or more
WHOLE = 0.98  # a film without a scale that fills so much of what can be stored is read by anybody the same way
BLANK = 1 / 16  # a film that fills less is left as it is: spreading it would make a picture of its noise
CLIPPED = 0.002  # share of the middle of the film at one end; on 99.5 % of the 3,200 it is 0.001 or less
WHITE = 0.01  # share of the whole film that is white; on 99 % of the 3,200 it is 0.003 or less. Black is any border
LEVELS = 58  # greys that a film uses as often as each other; the poorest of the 3,200 has 62, one of 6 bits at most 57
MEDIAN = 0.55  # of the greys of a film between black and white, once it is spread: about that of the training films
MOST_POWER = 2.5  # by which a median is moved: beyond, no film is left
NO_SCALE = (
    "The file does not say which value is black and which white: the film's own darkest and brightest were taken."
)
UNFILLED = "The film fills {:.0%} of the range that the file gives: its own darkest and brightest values were taken."


def spread(values: np.ndarray, counts: np.ndarray, scaled: bool) -> tuple[np.ndarray, str | None]:
    """Say what share of white each value is.

    Args:
        values: (n,) float in 0..1; where `scaled`, 0 is black and 1 is white, as the file has it.
        counts: (n,) int, how many pixels of the film have each value.
        scaled: whether the file says which value is black and which white.

    Returns:
        (n,) float64 in 0..1, and a warning where the film's own range was taken.
    """
    low, high = find_span(values, counts)
    filled = high - low
    if scaled and not BLANK <= filled < LEAST:
        return np.clip(values, 0, 1), None
    shares = np.clip((values - low) / (filled or 1.0), 0, 1)
    if scaled:
        return shares, UNFILLED.format(filled)
    return shares, NO_SCALE if filled < WHOLE else None


def find_span(values: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """Find the darkest and the brightest value of (n,) values that occur (n,) `counts` times, without the outliers."""
    order = np.argsort(values, kind="stable")
    ordered, weights = np.asarray(values, float)[order], np.asarray(counts)[order]

    def quantiles(shares: tuple[float, ...], weights: np.ndarray) -> list[float]:
        """The lowest values that at least such shares of the pixels do not exceed."""
        below = np.cumsum(weights)
        return [float(ordered[np.searchsorted(below, share * below[-1])]) for share in shares]

    dark, middle, bright = quantiles((0.05, 0.5, 0.95), weights)
    low = middle - FENCE * (middle - dark) if dark < middle else -np.inf  # half of the film may be black border
    high = middle + FENCE * (bright - middle) if bright > middle else np.inf
    inside = np.where((ordered >= low) & (ordered <= high), weights, 0)
    low, high = quantiles((ENDS, 1 - ENDS), inside)
    return low, high


def sample(pixels: np.ndarray) -> np.ndarray:
    """(H, W) -> some 256 lines of as many pixels: of all of them a histogram takes as long as the network."""
    step = max(1, min(pixels.shape) // 256)
    return pixels[::step, ::step]


def find_doubts(pixels: np.ndarray) -> list[str]:
    """Say what the tone of (H, W) uint8 leaves in doubt, in sentences: then the answer cannot be trusted either way."""
    seen = sample(pixels)
    height, width = seen.shape
    middle = seen[height // 4 : height - height // 4, width // 4 : width - width // 4]  # no black border there
    shares = np.bincount(seen.ravel(), minlength=256)[2:254] / seen.size
    found = []
    if (white := np.mean(middle >= 254)) > CLIPPED:
        found.append(f"{white:.1%} of the film's middle is pure white: what was brighter there is lost.")
    elif (white := np.mean(seen >= 254)) > WHITE:
        found.append(f"{white:.1%} of the film is pure white: what was brighter there is lost.")
    if (black := np.mean(middle <= 1)) > CLIPPED:
        found.append(f"{black:.1%} of the film's middle is pure black: what was darker there is lost.")
    if np.ptp(seen) > 255 * BLANK and (levels := count_levels(shares)) < LEVELS:  # of one grey there is nothing to say
        found.append(f"The film has about {levels:.0f} greys between black and white: a film has more than {LEVELS}.")
    return found


def level(pixels: np.ndarray) -> np.ndarray:
    """Give (H, W) uint8 the tone that every film has here: the same one whatever its gain, offset or gamma was.

    The film's own range is spread from black to white, and a power of the greys brings their median to MEDIAN. A film
    of one grey stays as it is.
    """
    greys = np.arange(256)
    counts = np.bincount(pixels.ravel(), minlength=256)
    low, high = find_span(greys, counts)
    if low == high:
        return pixels
    shares = np.clip((greys - low) / (high - low), 0, 1)
    inside = np.where((shares > 0.01) & (shares < 0.99), counts, 0)  # neither the black border nor letters
    if inside.any():
        median = shares[np.searchsorted(np.cumsum(inside), inside.sum() / 2)]
        shares **= np.clip(np.log(MEDIAN) / np.log(median), 1 / MOST_POWER, MOST_POWER)
    return np.rint(255 * shares).astype(np.uint8)[pixels]


def count_levels(shares: np.ndarray) -> float:
    """Count the equally frequent greys that have the entropy of (n,) shares: 2 to the power of it; 1 of none."""
    shares = shares[shares > 0] / max(shares.sum(), 1e-9)
    return float(2 ** -(shares * np.log2(shares)).sum())
