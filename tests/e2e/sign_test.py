"""Signatures made elsewhere: --print-pae, openssl in the place of an HSM, --attach."""

import pathlib
import subprocess
import unittest

import harness


def openssl(*words):
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


def raw_of(der):
    """DER SEQUENCE of two INTEGERs to the 64 bytes r||s that PKCS#11 devices give."""
    numbers, at = [], 2
    for _ in range(2):
        size = der[at + 1]
        numbers.append(int.from_bytes(der[at + 2 : at + 2 + size], "big").to_bytes(32, "big"))
        at += 2 + size
    return b"".join(numbers)


class Elsewhere(harness.Case):
    def pae_of(self, artifact):
        done = subprocess.run([harness.BINARY, "sign", artifact, "--print-pae"], check=True, capture_output=True)
        self.assertTrue(done.stdout.startswith(b"DSSEv1 "), done.stdout[:40])
        path = pathlib.Path(str(artifact) + ".pae")
        path.write_bytes(done.stdout)
        return path

    def attach(self, artifact, signature, name):
        path = self.workshop.path / "made-elsewhere.sig"
        path.write_bytes(signature)
        both = self.workshop.path / f"attached-{name}.tar.gz"
        return both, harness.run("sign", artifact, "--attach", path, "--public", self.workshop.public(name), "-o", both)

    def ecdsa(self, artifact, key):
        signature = self.workshop.path / "ecdsa.der"
        openssl("dgst", "-sha256", "-sign", key, "-out", signature, self.pae_of(artifact))
        return signature.read_bytes()

    def assert_signed_by(self, artifact, name):
        node = self.node(trust=False)
        self.assert_exit(node.run("trust", "add", self.workshop.public(name)), 0)
        self.assert_exit(node.apply(artifact), 0)

    def test_ecdsa_as_der_and_as_raw_numbers(self):
        artifact = self.workshop.pack("1.0.0")
        key = self.workshop.make_key("device", "--type", "ecdsa-p256")
        der = self.ecdsa(artifact, key)
        for signature in (der, raw_of(der)):
            both, done = self.attach(artifact, signature, "device")
            self.assert_exit(done, 0)
            self.assert_signed_by(both, "device")
            self.assert_signed_by(both, "release")  # the first one is still in it

    def test_ed25519(self):
        artifact = self.workshop.pack("1.0.1")
        key = self.workshop.make_key("edward")
        signature = self.workshop.path / "ed.sig"
        openssl("pkeyutl", "-sign", "-rawin", "-inkey", key, "-in", self.pae_of(artifact), "-out", signature)
        both, done = self.attach(artifact, signature.read_bytes(), "edward")
        self.assert_exit(done, 0)
        self.assert_signed_by(both, "edward")

    def test_a_signature_over_something_else_or_by_another_key_is_refused(self):
        artifact, other = self.workshop.pack("1.0.2"), self.workshop.pack("1.0.3")
        key = self.workshop.make_key("wrong", "--type", "ecdsa-p256")
        for signature in (self.ecdsa(other, key), raw_of(self.ecdsa(other, key)), b"", b"x" * 64):
            both, done = self.attach(artifact, signature, "wrong")
            self.assertIn(done.code, (2, 3), done)
            self.assertFalse(both.exists())
        der = self.ecdsa(artifact, key)
        self.workshop.make_key("innocent", "--type", "ecdsa-p256")
        _, done = self.attach(artifact, der, "innocent")
        self.assert_exit(done, 3)
        self.assertIn("--print-pae", done.err)


if __name__ == "__main__":
    unittest.main()
