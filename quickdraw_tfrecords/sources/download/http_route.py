"""The way to an HTTP server: direct, or through the proxy that the environment names."""

import base64
import http.client
import ssl
import urllib.parse
import urllib.request

from quickdraw_tfrecords.base.errors import UsageError


class Route:
    """How to connect to a server, and how to ask it for a file."""

    def __init__(self, base_url: str, timeout_secs: float) -> None:
        """Finds the way; nothing is connected.

        Args:
          base_url: What the URLs of all files of the server begin with.
          timeout_secs: Longest silence of the server, while connecting and while reading.

        Raises:
          UsageError: The URL, or the proxy's, is not an HTTP one.
        """
        self._server = _parse_url("--base_url", base_url, example="https://host/folder")
        self._proxy = _find_proxy(self._server)
        self._proxy_headers = _authorization(self._proxy) if self._proxy else {}
        self._timeout_secs = timeout_secs
        is_secure = self._server.scheme == "https"
        self._tls = ssl.create_default_context() if is_secure else None

    def connect(self) -> http.client.HTTPConnection:
        """A connection, which opens itself when it is used and not open."""
        address = _address(self._proxy or self._server)
        if not self._tls:
            return http.client.HTTPConnection(*address, timeout=self._timeout_secs)
        connection = http.client.HTTPSConnection(
            *address, timeout=self._timeout_secs, context=self._tls
        )
        if self._proxy:
            connection.set_tunnel(*_address(self._server), self._proxy_headers)
        return connection

    def request(
        self, connection: http.client.HTTPConnection, url: str, headers: dict[str, str]
    ) -> None:
        """Asks for a file, by its whole URL if a proxy has to find the server."""
        # Over TLS the proxy only tunnels, and the server sees an ordinary request.
        if self._proxy and not self._tls:
            connection.request("GET", url, headers=headers | self._proxy_headers)
        else:
            connection.request("GET", urllib.parse.urlsplit(url).path, headers=headers)


def _find_proxy(server: urllib.parse.SplitResult) -> urllib.parse.SplitResult | None:
    proxies = urllib.request.getproxies()
    proxy = proxies.get(server.scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(server.netloc):
        return None
    url = proxy if "://" in proxy else f"http://{proxy}"
    found = _parse_url(f"{server.scheme}_proxy", url, example="http://host:port")
    if found.scheme != "http":
        raise UsageError(f"{server.scheme}_proxy={proxy}: a proxy must be reached by http://")
    return found


def _parse_url(name: str, value: str, *, example: str) -> urllib.parse.SplitResult:
    try:
        url = urllib.parse.urlsplit(value)
        if url.scheme in ("http", "https") and url.hostname and url.port != 0:
            value.encode("ascii")
            return url
    except ValueError:
        pass
    raise UsageError(f"{name}={value}: must be a URL such as {example}")


def _address(url: urllib.parse.SplitResult) -> tuple[str, int]:
    return str(url.hostname), url.port or (443 if url.scheme == "https" else 80)


def _authorization(proxy: urllib.parse.SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    user = urllib.parse.unquote(f"{proxy.username}:{proxy.password or ''}")
    return {"Proxy-Authorization": f"Basic {base64.b64encode(user.encode()).decode()}"}
