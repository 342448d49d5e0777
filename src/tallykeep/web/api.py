"""The web listener's application: the routes of every system that has some, the history, an OpenAPI page.

FastAPI is imported here, and here only when a web listener is wanted. The application knows no system by name: it is
given routers. Around them stand, from the outside in: CORS, the token, HEAD and conditional and packed replies.
Errors are JSON objects with the key `error`, documented in the OpenAPI page.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from tallykeep import __version__
from tallykeep.web.api_page import Front, Told
from tallykeep.web.api_replies import Finish
from tallykeep.web.api_series import Readable, series_router
from tallykeep.web.api_token import TokenGuard
from tallykeep.web.asgi import App

_log = logging.getLogger(__name__)


def api(
    routers: Iterable[APIRouter],
    histories: Sequence[Readable] = (),
    told: Sequence[tuple[str, Told]] = (),
    *,
    token: str = "",
    origins: Sequence[str] = (),
) -> App:
    """An ASGI application.

    `histories` are what /api/v1/series reads, the first that knows a name; `told` is what the page at / shows, by
    name of its system. With a `token` everything but /health asks for it; `origins` are those CORS lets in.
    """
    app: App = _application([*routers, series_router(histories)], guarded=bool(token))
    app = Finish(Front(app, told))
    if token:
        app = TokenGuard(app, token)
    if origins:
        app = CORSMiddleware(
            app, allow_origins=list(origins), allow_methods=["GET", "HEAD"], allow_headers=["Authorization"],
            expose_headers=["ETag"],
        )  # fmt: skip
    return app


def _application(routers: Iterable[APIRouter], *, guarded: bool) -> FastAPI:
    common: dict[int | str, dict[str, Any]] = {
        304: {"description": "The answer whose ETag was sent in If-None-Match still stands."},
        422: {"description": "A parameter that cannot be used.", **error_content()},
    }
    if guarded:
        common[401] = {"description": "The token is missing or wrong.", **error_content()}
    app = FastAPI(
        title="tallykeep",
        version=__version__,
        summary="Figures, history and health as JSON.",
        docs_url=None,  # both would fetch their scripts from a CDN
        redoc_url=None,
        openapi_url="/openapi.json",
        responses=common,
    )
    for router in routers:
        app.include_router(router)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _defect)
    return app


def error_content() -> dict[str, Any]:
    """The OpenAPI content of an error reply."""
    schema = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
    return {"content": {"application/json": {"schema": schema}}}


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    told = {404: f"Nothing is at {request.url.path}: see /openapi.json", 405: "Only GET and HEAD are answered here"}
    message = told.get(error.status_code, str(error.detail))
    headers = {"Allow": "GET, HEAD"} if error.status_code == 405 else error.headers
    return JSONResponse({"error": message}, error.status_code, headers)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problems = [f"{'.'.join(str(part) for part in one['loc'][1:])}: {one['msg']}" for one in error.errors()]
    return JSONResponse({"error": "; ".join(problems)}, 422)


async def _defect(request: Request, error: Exception) -> JSONResponse:
    _log.error("answering %s failed: a defect", request.url.path, exc_info=error)
    return JSONResponse({"error": "an unexpected error; the log of tallykeep has it"}, 500)
