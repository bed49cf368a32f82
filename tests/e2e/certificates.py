"""Certificates for a test, made by the openssl command in a folder of its own."""

import subprocess

KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)


def make_authority(folder):
    """authority.pem and authority.key."""
    pem, key = folder / "authority.pem", folder / "authority.key"
    openssl("req", "-x509", *KEY, "-keyout", key, "-out", pem, "-days", 2, "-subj", "/CN=Test authority")


def make_certificate(folder, name, names):
    """NAME.pem and NAME.key for those names ("DNS:a,IP:b"), signed by the authority; their paths."""
    pem, key, request, extra = (folder / f"{name}.{ending}" for ending in ("pem", "key", "csr", "ext"))
    extra.write_text(f"subjectAltName={names}\n")
    openssl("req", *KEY, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
    signer = ["-CA", folder / "authority.pem", "-CAkey", folder / "authority.key", "-CAcreateserial"]
    openssl("x509", "-req", "-in", request, *signer, "-days", 2, "-extfile", extra, "-out", pem)
    return pem, key
