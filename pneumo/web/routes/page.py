"""GET and POST /: the page, and the answers as a page."""

from flask import Blueprint, g, render_template, request

from pneumo.errors import NoFileError
from pneumo.web.service import get_service
from pneumo.web.uploads import read_uploads
from pneumo.web.view import read_for_page, render_page, summarize

blueprint = Blueprint("page", __name__)


@blueprint.get("/")
def page() -> str:
    """Show the page without an answer."""
    return render_page()


@blueprint.post("/")
def page_answer() -> tuple[str, int]:
    """Read the films of the form and show the answers; with the header X-Fragment without the page around them.

    Raises:
        NoFileError: the form names a sample film that does not exist.
        PneumoError: see `read_uploads`, `Card.operating_point` and `Card.check_population`.
    """
    service = get_service()
    card = service.predictor.card
    operating_point = card.operating_point(request.form.get("operating_point"))
    population = card.check_population(request.form.get("population") or None)
    if name := request.form.get("sample"):
        files = [(path.name, path.read_bytes()) for path in service.samples if path.name == name]
        if not files:
            raise NoFileError("Expected the name of a sample film, received another.")
    else:
        files = read_uploads()
    force = request.form.get("force") == "1"
    options = service, g.request_id, operating_point, force, population
    results = [service.queue.read(read_for_page, name, data, *options) for name, data in files]
    problems = [result["problem"] for result in results if result["problem"]]
    g.outcome = summarize(len(results), problems)
    status = problems[0]["status"] if len(problems) == len(results) else 200
    if request.headers.get("X-Fragment"):
        return render_template("_results.html", results=results, model=card.contents), status
    return render_page(results, operating_point=operating_point, population=population), status
