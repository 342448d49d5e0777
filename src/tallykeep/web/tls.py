"""TLS contexts of listeners, and one that can be exchanged while its listener runs.

Source: Python, ssl; CPython, asyncio/sslproto.py, which asks the listener's context for `wrap_bio` at each accept.
"""

from __future__ import annotations

import ssl
from typing import Any

from tallykeep.errors import ConfigError
from tallykeep.web.webconfig import TlsSettings

_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_VERIFY = {
    "VerifyClientCertIfGiven": ssl.VerifyMode.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.VerifyMode.CERT_REQUIRED,
}


def make_context(settings: TlsSettings) -> ssl.SSLContext:
    """A server context with the certificate, and with what is asked of clients.

    Raises: ConfigError naming the files that cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[settings.min_version]
    context.maximum_version = _VERSIONS[settings.max_version]
    try:
        # a password callback, since OpenSSL would otherwise ask for one on the terminal and wait
        context.load_cert_chain(settings.cert_file, settings.key_file, password=_no_password)
    except (OSError, ValueError) as error:
        files = f"{settings.cert_file} with {settings.key_file}"
        raise ConfigError(f"tls_server_config: cannot use {files}: {error}") from None
    if settings.client_ca_file is not None:
        try:
            context.load_verify_locations(settings.client_ca_file)
        except (OSError, ValueError) as error:
            raise ConfigError(f"tls_server_config: cannot use {settings.client_ca_file}: {error}") from None
        context.verify_mode = _VERIFY[settings.client_auth_type]
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted; store it without a password")


class LiveContext(ssl.SSLContext):
    """Gives every new connection the `current` context.

    Loading a new certificate into a context that is in use works, but what it once trusted it trusts for ever: a
    client authority that was taken out of the file must lose its access. So the whole context is exchanged.
    """

    current: ssl.SSLContext

    def __new__(cls, first: ssl.SSLContext) -> LiveContext:
        made = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        made.current = first
        return made

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        return self.current.wrap_bio(*args, **kwargs)
