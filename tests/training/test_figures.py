"""Figures of each population are of its own films alone."""

from pathlib import Path

from pneumo.data.dataset import Example
from pneumo.training import statements
from pneumo.training.population import sort_by_population


def film(age):
    return Example(Path(f"{age}.png"), "NORMAL", None, str(age), age=age)


def test_films_are_sorted_by_age_and_ages_between_are_left_out():
    ages = [None, 1, 5, 6, 17, 18, 90]
    sorted_films = sort_by_population({part: [film(age) for age in ages] for part in ("validation", "internal_test")})
    found = {name: [e.age for e in parts["validation"]] for name, parts in sorted_films.items()}
    assert found == {"child": [None, 1, 5], "adult": [18, 90]}
    assert list(sort_by_population({"validation": [film(None)], "internal_test": [film(2)]})) == ["child"]


def test_what_a_card_states_depends_on_whom_its_model_knows():
    children, both = statements.state(["child"]), statements.state(["child", "adult"])
    assert children == {"intended_use": statements.INTENDED_USE, "limits": statements.LIMITS}
    assert "children aged 1 to 5, or of adults" in both["intended_use"]
    assert both["limits"][0] == children["limits"][0]
    assert statements.LIMITS[1] not in both["limits"]
    assert all(limit in both["limits"] for limit in statements.LIMITS[2:])
