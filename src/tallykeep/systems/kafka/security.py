"""How a client comes to a broker: protocol, user, files of TLS. Settings speak of it, so it imports no client."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tallykeep.config.model import Secret
from tallykeep.errors import ConfigError

if TYPE_CHECKING:
    import ssl


@dataclass(frozen=True, slots=True)
class Security:
    """How to come to a broker."""

    protocol: str = "PLAINTEXT"  # SASL_PLAINTEXT, SSL, SASL_SSL
    mechanism: str = "PLAIN"  # SCRAM-SHA-256, SCRAM-SHA-512
    username: str = ""
    password: Secret = field(default_factory=lambda: Secret(""))
    ca_file: Path | None = None  # None: the system's authorities
    certificate_file: Path | None = None  # for mTLS, with the key in it or beside it
    key_file: Path | None = None

    @property
    def uses_tls(self) -> bool:
        return self.protocol in ("SSL", "SASL_SSL")

    def context(self) -> ssl.SSLContext | None:
        """What TLS needs, or None without TLS. Reads the files. Raises: ConfigError."""
        if not self.uses_tls:
            return None
        import ssl

        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.certificate_file:
                context.load_cert_chain(self.certificate_file, self.key_file)
        except OSError as error:  # ssl.SSLError is one
            files = ", ".join(str(file) for file in (self.ca_file, self.certificate_file, self.key_file) if file)
            raise ConfigError(f"TLS to Kafka cannot be set up with {files}: {error}") from None
        return context
