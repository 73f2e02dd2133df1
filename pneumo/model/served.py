"""The served file: pixels -> the map of logits and the gate's features, in one forward pass. Knows no threshold."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Semaphore
from typing import TYPE_CHECKING

import numpy as np

from pneumo.errors import ModelError
from pneumo.films.film import to_input
from pneumo.films.preprocessing import prepare
from pneumo.model.card import Card
from pneumo.model.gate import flatten

if TYPE_CHECKING:
    from ai_edge_litert.interpreter import Interpreter


class Served:
    """The LiteRT model of a card, warmed up. Threads may share it.

    An interpreter reads one film at a time, on `threads` cores. There is one interpreter at first; more are made, up to
    `at_once`, when several threads ask at the same time.

    Raises:
        ModelError: the file is missing, damaged or no model, or its input or outputs are not what the card says.
    """

    def __init__(self, card: Card, threads: int = 2, at_once: int = 1) -> None:
        self._card, self._threads = card, threads
        # Bytes, not the path: a mapped file would change under the server when somebody writes a new model over it.
        self._model = card.read("served")
        first = self._start()
        inputs, outputs = first.get_input_details(), first.get_output_details()
        _check("input", inputs, [(1, card.size, card.size, 3)])
        _check("outputs", outputs, [card.output_shape, *card.feature_shapes])
        self._input = inputs[0]["index"]
        # the order of the outputs in a file is arbitrary: the card tells them apart by their shapes
        index = {tuple(one["shape"].tolist()): one["index"] for one in outputs}
        self._map, self._features = index[card.output_shape], [index[shape] for shape in card.feature_shapes]
        # invoke() lets other threads run, but none of them may touch the same interpreter meanwhile
        self._free, self._limit = [first], Semaphore(at_once)
        try:
            self.look(np.zeros((card.size, card.size), np.uint8))  # the first pass is slow: do it before anybody waits
        except ModuleNotFoundError as error:
            raise ModelError(
                f"{card.name} needs the Python package {error.name} for its preprocessing ({', '.join(card.steps)}): "
                "install requirements.txt (`make setup`)."
            ) from None

    def look(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        """Run one forward pass on an (H, W) uint8 film.

        Returns the map of logits, (h, w) float32, whose mean is the film's logit; the gate's features, (d,) float32;
        and the warnings of the preprocessing.
        """
        film, warnings = prepare(pixels, self._card.size, self._card.steps)
        batch = to_input(film, self._card.size)  # (1, size, size, 3)
        with self._take() as interpreter:
            interpreter.tensor(self._input)()[:] = batch  # set_tensor would copy the view first
            interpreter.invoke()
            logit_map = interpreter.get_tensor(self._map)[0, :, :, 0]  # (h, w)
            features = [interpreter.get_tensor(index) for index in self._features]
        return logit_map, flatten(features), warnings

    def _start(self) -> "Interpreter":
        """Make an interpreter for the model."""
        from ai_edge_litert.interpreter import Interpreter

        try:
            interpreter = Interpreter(model_content=self._model, num_threads=self._threads)
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"{self._card.file('served')} is not a LiteRT model: {error}") from None
        return interpreter

    @contextmanager
    def _take(self) -> "Iterator[Interpreter]":
        """Wait for a free interpreter and lend it to this thread alone."""
        with self._limit:
            try:
                interpreter = self._free.pop()
            except IndexError:  # all are in use, but fewer than `at_once`
                interpreter = self._start()
            try:
                yield interpreter
            finally:
                self._free.append(interpreter)


def _check(what: str, details: list[dict], expected: list[tuple[int, ...]]) -> None:
    """Refuse a model whose inputs or outputs differ from the card's shapes or are not float32."""
    shapes = [tuple(one["shape"].tolist()) for one in details]
    if sorted(shapes) != sorted(expected) or any(one["dtype"] != np.float32 for one in details):
        received = ", ".join(f"{s} {one['dtype'].__name__}" for s, one in zip(shapes, details, strict=True))
        raise ModelError(f"Expected the model's {what} to be {expected} float32, received {received}.")
