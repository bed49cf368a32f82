"""nginx with the same settings as our front: one worker, the same reply, the same TLS."""

import re
import subprocess

from client import Connection
from servers import BenchError, Server, environment, free_port, run

PATH = "/health/live"
UPLOAD_PATH = "/upload"
OWN_FIELDS = ("date", "content-type", "content-length", "connection", "server")


def make_certificate(folder):
    """A P-256 certificate for this machine that nobody else signed; (its file, the file of its key)."""
    pem, key = folder / "server.pem", folder / "server.key"
    run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-keyout", key, "-out", pem])  # fmt: skip
    return pem, key


def look(port, tls):
    """The reply that is counted, once."""
    with Connection(port, tls) as connection:
        return connection.get(PATH)


class NginxFront(Server):
    """Answers PATH as `reply` is, with as many fields in its head and a body of the same size, in clear text or over
    TLS. POST UPLOAD_PATH reads the whole body into memory, then answers 200."""

    # The mirror module makes nginx read a body before anything else happens, and sends it to nobody. The empty picture
    # that then is wanted does not take POST: that 405 becomes the 200.
    CONFIG = """
daemon off;
pid {folder}/pid;
error_log {folder}/log crit;
worker_processes 1;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    default_type application/json;
    keepalive_requests 1000000000;
    keepalive_timeout 60s;
    client_max_body_size 64m;
    client_body_buffer_size 64m;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    scgi_temp_path {folder}/scgi;
    uwsgi_temp_path {folder}/uwsgi;
    server {{
        {listen}
        location = {path} {{
            {fields}
            return 200 '{body}';
        }}
        location = {upload} {{
            mirror /drop;
            empty_gif;
            error_page 405 =200 /taken;
        }}
        location = /drop {{ internal; return 204; }}
        location = /taken {{ internal; return 200 '{body}'; }}
    }}
}}
"""
    TLS = """listen 127.0.0.1:{port} ssl http2;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_ciphers ECDHE+AESGCM:ECDHE+CHACHA20;
        ssl_prefer_server_ciphers on;
        ssl_ecdh_curve X25519:P-256:P-384;
        ssl_conf_command NumTickets 1;"""

    def __init__(self, folder, reply, certificate=None, cpus=None):
        super().__init__(folder, cpus)
        self._reply = reply
        self._certificate = certificate

    def start(self):
        self.port = free_port()
        config = self.folder / "nginx.conf"
        listen = f"listen 127.0.0.1:{self.port};"
        if self._certificate:
            listen = self.TLS.format(port=self.port, certificate=self._certificate[0], key=self._certificate[1])
        config.write_text(
            self.CONFIG.format(folder=self.folder, listen=listen, path=PATH, upload=UPLOAD_PATH,
                               fields="\n            ".join(self._fields()), body=self._reply.body.decode())
        )  # fmt: skip
        self._spawn(["nginx", "-c", config, "-e", self.log], environment(), self.folder / "stdout")
        self._wait(lambda: self._answers(PATH, tls=bool(self._certificate)))
        got = look(self.port, bool(self._certificate))
        if got.body != self._reply.body or len(got.fields) != len(self._reply.fields):
            raise BenchError(f"nginx answers {got}, which is no match for {self._reply}")

    def _fields(self):
        """What nginx adds to its own five fields to have as many as we do: the longest of ours."""
        ours = [name for name in self._reply.fields if name.lower() not in OWN_FIELDS]
        ours.sort(key=lambda name: -len(name + self._reply.fields[name]))
        for name in ours[: len(self._reply.fields) - len(OWN_FIELDS)]:
            value = "$request_id" if name.lower() == "x-request-id" else self._reply.fields[name]
            yield f'add_header {name} "{value}";'


def tls_terms(port):
    """What a handshake with this server agrees on: (version and cipher, group, kind of signature)."""
    said = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{port}"], input=b"",
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20).stdout.decode()  # fmt: skip
    patterns = (r"New, (.*)", r"Server Temp Key: (.*)", r"Peer signature type: (.*)")
    found = [re.search(pattern, said) for pattern in patterns]
    if None in found:
        raise BenchError(f"openssl s_client says something else than expected:\n{said}")
    return tuple(each[1] for each in found)
