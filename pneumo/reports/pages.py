"""Figures and words -> Markdown, by the Jinja2 templates beside this file. Computes nothing."""

from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

ATTRIBUTION = (
    "Films of *Chest X-Ray Images (Pneumonia)*: Kermany, Zhang, Goldbaum, Mendeley Data, doi 10.17632/rscbjbr9sj, "
    "CC BY 4.0."
)


def render(template: str, **values: object) -> str:
    """Fill `templates/NAME.md.jinja`; a name that it uses and `values` lacks raises `jinja2.UndefinedError`."""
    return _ENVIRONMENT.get_template(f"{template}.md.jinja").render(values)


def write_table(heads: Sequence[str], rows: Sequence[Sequence]) -> str:
    """Write a Markdown table; without a newline at its end."""
    return "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in (heads, ("---",) * len(heads), *rows))


def write_figure(value: float | None, digits: int = 4, sign: bool = False) -> str:
    """Write a number with so many decimals, a minus as −; "undefined" for None."""
    return "undefined" if value is None else f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−")


def write_interval(interval: Sequence[float] | None, digits: int = 4) -> str:
    """Write an interval as "0.1 to 0.2"; nothing for None."""
    return " to ".join(write_figure(end, digits) for end in interval or ())


def write_percent(share: float | None, digits: int = 1) -> str:
    """Write a share in 0..1 as "12.3 %"."""
    return "undefined" if share is None else f"{100 * share:.{digits}f} %"


def write_spanned(found: dict, name: str, digits: int = 3) -> str:
    """Write a figure of `found` and, in brackets, what its `intervals` say: "0.979 (0.934 to 0.994)"."""
    value, interval = found[name], found["intervals"][name]
    return write_figure(value, digits) + (f" ({write_interval(interval, digits)})" if interval else "")


def write_spanned_percent(found: dict, name: str, digits: int = 1) -> str:
    """The same of a share, as "2.5 % (1.0 to 5.9)"."""
    low, high = (100 * end for end in found["intervals"][name])
    return f"{write_percent(found[name], digits)} ({low:.{digits}f} to {high:.{digits}f})"


def write_duration(seconds: float) -> str:
    """Write a time in hours, in minutes below one."""
    return f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.0f} minutes"


_ENVIRONMENT = Environment(
    loader=PackageLoader("pneumo.reports"),
    autoescape=False,  # Markdown
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_ENVIRONMENT.globals |= {"table": write_table, "spanned": write_spanned, "spanned_percent": write_spanned_percent}
_ENVIRONMENT.globals["attribution"] = ATTRIBUTION
_ENVIRONMENT.filters |= {
    "figure": write_figure,
    "interval": write_interval,
    "percent": write_percent,
    "duration": write_duration,
}
