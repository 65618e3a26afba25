# SPDX-License-Identifier: Apache-2.0
"""Certificates that trirectl does not make: with any dates, written as 20200101000000Z."""

import subprocess

CONFIGURATION = """[ca]
default_ca = d
[d]
database = {out}/index
serial = {out}/serial
new_certs_dir = {out}
default_md = sha256
policy = p
[p]
commonName = supplied
[host]
subjectAltName = DNS:{name}
keyUsage = digitalSignature
extendedKeyUsage = clientAuth,serverAuth
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
"""


def issue(ca, out, name, start, end):
    """Writes host.pem for the host.key in `out`, signed by the CA in the directory `ca`."""
    _sign(
        out,
        name,
        f"{out}/host.key",
        f"{out}/host.pem",
        start,
        end,
        "host",
        f"-cert {ca}/ca.pem -keyfile {ca}/ca.key",
    )


def age(ca, name, start, end):
    """Rewrites the ca.pem in the directory `ca` with other dates, for the same key."""
    _sign(
        ca,
        name,
        f"{ca}/ca.key",
        f"{ca}/ca.pem",
        start,
        end,
        "authority",
        f"-selfsign -keyfile {ca}/ca.key",
    )


def _sign(out, name, key, written, start, end, extensions, signer):
    for file, text in {
        "serial": "07\n",
        "index": "",
        "ca.cnf": CONFIGURATION.format(out=out, name=name),
    }.items():
        with open(f"{out}/{file}", "w", encoding="ascii") as opened:
            opened.write(text)
    for line in (
        f"req -new -key {key} -subj /CN={name} -out {out}/csr",
        f"ca -batch -config {out}/ca.cnf -extensions {extensions} {signer} -in {out}/csr -out {written} -notext -startdate {start} -enddate {end}",
    ):
        subprocess.run(["openssl", *line.split()], check=True, stderr=subprocess.DEVNULL)
