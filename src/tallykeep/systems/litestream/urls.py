"""Replica URLs as Litestream reads them, and what is never shown of them.

`s3://bucket/prefix` in all its forms: query parameters, the hosts of known providers, `bucket.host:port` of MinIO,
access point ARNs; `file:///path` and plain paths. The kinds tallykeep cannot read are recognized, so that a
message can name them. Nothing here touches the network.
Source: Litestream 0.5.17, ParseReplicaURLWithQuery, s3.ParseHost, EnsureEndpointScheme.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote

from tallykeep.config.parse import Parser

FILE, S3 = "file", "s3"
OTHER_KINDS = ("gs", "abs", "sftp", "nats", "oss", "webdav")  # Litestream's, not readable here

_URL = re.compile(r"(\w+)://(.*)", re.DOTALL)
_USER = re.compile(r"^(\w+://)[^/?#@]*@")
_LOCAL = re.compile(
    r"localhost|127\.0\.0\.1|(192\.168|10|172\.(1[6-8]|2\d|30|31))\..*|.*\.local|.*\.localhost", re.IGNORECASE
)
_AWS = re.compile(r"(.+)\.s3(?:\.([^.]+))?\.amazonaws\.com")


@dataclass(frozen=True, slots=True)
class ReplicaUrl:
    """Where a replica is. Printed without credentials and parameters."""

    kind: str  # FILE, S3 or one of OTHER_KINDS
    shown: str
    path: Path | None = None  # of FILE
    bucket: str = ""
    prefix: str = ""
    endpoint: str = ""  # with scheme; "" is AWS
    region: str = ""
    path_style: bool = field(default=False)
    skip_verify: bool = False

    @property
    def readable(self) -> bool:
        """Whether tallykeep can open it."""
        return self.kind in (FILE, S3)

    def below(self, relative: str) -> ReplicaUrl:
        """The replica of a database at `relative` below a watched directory."""
        if self.kind == FILE:
            assert self.path is not None
            return file_replica(self.path / relative)
        prefix = clean(posixpath.join(self.prefix, relative))
        return _rebuilt(self, prefix, self.shown.rstrip("/") + "/" + relative)

    def __str__(self) -> str:
        return self.shown


def _rebuilt(url: ReplicaUrl, prefix: str, shown: str) -> ReplicaUrl:
    return ReplicaUrl(
        url.kind, shown, None, url.bucket, prefix, url.endpoint, url.region, url.path_style, url.skip_verify
    )


def parse_replica(text: str) -> ReplicaUrl:
    """Read a replica URL or path.

    Raises: ValueError for a scheme Litestream does not have, or a URL without its bucket or path.
    """
    match = _URL.match(text)
    if match is None:
        return file_replica(Path(text))
    kind, rest = match[1].lower(), match[2]
    kind = "webdav" if kind == "webdavs" else kind
    if kind in OTHER_KINDS:
        return ReplicaUrl(kind, masked(text))
    if kind == S3:
        return _s3(rest)
    if kind == FILE:
        return file_replica(Path(_file_path(rest)))
    raise ValueError(f"{masked(text)!r}: a replica is s3://..., file:///... or a path")


def file_replica(path: Path) -> ReplicaUrl:
    """A replica in a folder."""
    if str(path) in ("", "."):
        raise ValueError("the path of the replica is missing")
    return ReplicaUrl(FILE, f"file://{path.absolute()}", path)


def s3_replica(bucket: str, prefix: str, endpoint: str, region: str, path_style: bool | None,
               skip_verify: bool) -> ReplicaUrl:  # fmt: skip
    """A replica given in parts, with the defaults of its provider."""
    if endpoint:
        endpoint = with_scheme(endpoint)
    style = needs_path_style(endpoint, bool(endpoint)) if path_style is None else path_style
    prefix = clean(prefix)
    return ReplicaUrl(S3, _shown(bucket, prefix), None, bucket, prefix, endpoint, region, style, skip_verify)


def overridden(
    url: ReplicaUrl, endpoint: str = "", region: str = "", path_style: bool | None = None, skip_verify: bool = False
) -> ReplicaUrl:
    """A URL's replica with what is given beside the URL, which wins. Other kinds than s3 stay as they are."""
    if url.kind != S3:
        return url
    style = needs_path_style(endpoint, url.path_style or bool(endpoint)) if path_style is None else path_style
    return s3_replica(
        url.bucket, url.prefix, endpoint or url.endpoint, region or url.region, style or url.path_style,
        skip_verify or url.skip_verify,
    )  # fmt: skip


def masked(url: str) -> str:
    """`url` without user, password and parameters: what may be logged, labelled or printed. A path is shown whole."""
    if "://" not in url:
        return url
    return _USER.sub(r"\1", url).partition("?")[0].partition("#")[0]


def clean(path: str) -> str:
    """A path inside a bucket as Litestream cleans it: no leading slash, no empty, "." or ".." parts."""
    return posixpath.normpath("/" + path).lstrip("/")


def with_scheme(endpoint: str) -> str:
    """An endpoint with https://, or http:// where it is on this machine or a private network."""
    if re.match(r"https?://", endpoint):
        return endpoint
    host = endpoint.rpartition(":")[0] if ":" in endpoint else endpoint
    return ("http://" if _LOCAL.fullmatch(host) else "https://") + endpoint


def needs_path_style(endpoint: str, default: bool) -> bool:
    """Whether the bucket belongs into the path of requests to this endpoint."""
    host = re.sub(r"^https?://", "", endpoint).lower().rstrip("/")
    if host.endswith((".backblazeb2.com", "s3.filebase.com")):
        return True
    return default


def _shown(bucket: str, prefix: str) -> str:
    return f"s3://{bucket}/{prefix}".rstrip("/")


def _file_path(rest: str) -> str:
    """The folder Litestream makes of a file URL: it keeps the path percent-encoded, so a space becomes "%20"."""
    path = "/" + rest.partition("?")[0].lstrip("/")
    if re.search(r"[^\w/$&+,:;=@.~!'()*\[\]%#-]", path, re.ASCII):
        path = quote(unquote(path), safe="/$&+,:;=@~#")
    return posixpath.normpath(path) if path != "/" else ""


def _s3(rest: str) -> ReplicaUrl:
    place, _, query = rest.partition("#")[0].partition("?")
    bucket, region, endpoint, style, path = _arn(place) if place.lower().startswith("arn:") else _host_and_path(place)
    asked = {name: values[0] for name, values in parse_qs(query).items()}
    if given := _asked(asked, "endpoint"):
        endpoint = with_scheme(given)
        style = _asked(asked, "forcePathStyle", "force-path-style").lower() != "false"
    region = _asked(asked, "region") or region
    if wanted := _asked(asked, "forcePathStyle", "force-path-style"):
        style = wanted.lower() == "true"
    skip = _asked(asked, "skipVerify", "skip-verify").lower() == "true"
    if not bucket:
        raise ValueError("the bucket of the replica is missing: s3://bucket/prefix")
    prefix = clean(path)
    return ReplicaUrl(S3, _shown(bucket, prefix), None, bucket, prefix, endpoint, region, style, skip)


def _asked(query: Mapping[str, str], *names: str) -> str:
    return next((query[name] for name in names if query.get(name)), "")


def _arn(place: str) -> tuple[str, str, str, bool, str]:
    """An access point stands for the bucket; what follows its name is the prefix."""
    match = re.match(r"(arn:.*?:accesspoint/[^/]+)/?(.*)", place, re.IGNORECASE)
    if match is None:
        raise ValueError(f"s3://{place}: an ARN here is arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME/prefix")
    fields = match[1].split(":")
    return match[1], fields[3] if len(fields) > 3 else "", "", False, match[2]


def _host_and_path(place: str) -> tuple[str, str, str, bool, str]:
    host, _, path = place.partition("/")
    return (*parse_host(host.rpartition("@")[2]), unquote(path))


def parse_host(host: str) -> tuple[str, str, str, bool]:
    """Bucket, region, endpoint and path style told by the host of an s3:// URL."""
    if ":" in host and ".com" not in host:
        bucket, dot, rest = host.partition(".")
        if not dot or re.fullmatch(r"[\d.]+:\d+", host):
            return "", "us-east-1", f"http://{host}", True
        return bucket, "us-east-1", f"http://{rest}", True
    if match := _AWS.fullmatch(host):
        return match[1], match[2] or "", "", False
    for pattern, endpoint, style in _PROVIDERS:
        if match := pattern.fullmatch(host):
            found = match.groupdict()
            return found["bucket"] or "", found.get("region", ""), endpoint.format(**found), style
    return host, "", "", False


_PROVIDERS = (
    (re.compile(r"(?:(?P<bucket>.+)\.)?(?P<region>[^.]+)\.digitaloceanspaces\.com"),
     "https://{region}.digitaloceanspaces.com", False),
    (re.compile(r"(?:(?P<bucket>.+)\.)?s3\.(?P<region>[^.]+)\.backblazeb2\.com"),
     "https://s3.{region}.backblazeb2.com", True),
    (re.compile(r"(?:(?P<bucket>.+)\.)?s3\.filebase\.com"), "https://s3.filebase.com", True),
    (re.compile(r"(?:(?P<bucket>.+)\.)?s3\.(?P<region>[^.]+)\.scw\.cloud"), "https://s3.{region}.scw.cloud", False),
    (re.compile(r"(?P<bucket>.+)\.(?P<account>[0-9a-f]+)\.r2\.cloudflarestorage\.com"),
     "https://{account}.r2.cloudflarestorage.com", False),
    (re.compile(r"(?P<bucket>.+)\.fly\.storage\.tigris\.dev"), "https://fly.storage.tigris.dev", False),
    (re.compile(r"(?P<bucket>.+)\.t3\.storage\.dev"), "https://t3.storage.dev", False),
)  # fmt: skip

_ENDPOINT = re.compile(r"(?:https?://)?(?:[^\s/?#@]*@)?(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?(?:/[^\s?#]*)?")


def _endpoint(text: str) -> str:
    if not _ENDPOINT.fullmatch(text):
        raise ValueError("not an endpoint")
    return text


ENDPOINT: Parser[str] = Parser(_endpoint, "https://host, http://host:port, or either without its scheme")
REPLICA: Parser[ReplicaUrl] = Parser(parse_replica, "s3://bucket/prefix, file:///path or a path, as Litestream has it")
