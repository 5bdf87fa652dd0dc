"""Flask under its own server, hit by goroutines of the same process."""

import logging
import threading
from collections.abc import Iterator

from goroutines.patch import patch

patch()

import flask
import requests
from crowd import COUNT, all_of, held
from werkzeug.serving import make_server

app = flask.Flask("clients")
app.secret_key = "secret"
count, gate = threading.Lock(), threading.Event()
inside = 0


@app.before_request
def remember() -> None:
    """Keep something in what is this request's own."""
    flask.g.path = flask.request.path


@app.get("/held/<int:i>")
def hold(i: int) -> dict[str, object]:
    """Answer when all others are here too."""
    global inside
    with count:
        inside += 1
    gate.wait()
    return {"i": i, "g": flask.g.path, "request": flask.request.path}


@app.post("/login")
def login() -> str:
    """Put something into the session's cookie."""
    flask.session["name"] = flask.request.form["name"]
    return "welcome"


@app.get("/name")
def name() -> str:
    """Tell it from the session's cookie."""
    return str(flask.session["name"])


@app.get("/stream")
def stream() -> flask.Response:
    """Answer in pieces."""

    def pieces() -> Iterator[str]:
        for i in range(100):
            yield f"{i:10}" * 100

    return flask.Response(flask.stream_with_context(pieces()), mimetype="text/plain")


@app.get("/fail")
def fail() -> str:
    """Raise."""
    raise ZeroDivisionError


def visit(i: int) -> str:
    """Log in and come back."""
    with requests.Session() as session:
        assert session.post(f"{url}/login", data={"name": f"visitor {i}"}).text == "welcome"
        return session.get(f"{url}/name").text


def listen(i: int) -> int:
    """Read a streamed answer as it comes."""
    with requests.get(f"{url}/stream", stream=True) as response:
        return sum(len(piece) for piece in response.iter_content(777))


logging.getLogger("werkzeug").setLevel(logging.ERROR)
app.logger.setLevel(logging.CRITICAL)
server = make_server("127.0.0.1", 0, app, threaded=True)
url = f"http://127.0.0.1:{server.server_port}"
thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
thread.start()
answers = held(lambda i: requests.get(f"{url}/held/{i}").json(), lambda: inside, gate.set)
paths = [f"/held/{i}" for i in range(COUNT)]
assert answers == [{"i": i, "g": path, "request": path} for i, path in enumerate(paths)]
assert all_of(visit) == [f"visitor {i}" for i in range(COUNT)]
assert all_of(listen, 10) == [100_000] * 10
assert requests.get(f"{url}/fail").status_code == 500
server.shutdown()
thread.join()
server.server_close()
print("ok")
