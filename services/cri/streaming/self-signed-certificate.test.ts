import assert from "node:assert/strict";
import { createPrivateKey, X509Certificate } from "node:crypto";
import test from "node:test";
import { makeSelfSignedCertificate } from "./self-signed-certificate.ts";

test("a certificate is good for its addresses, is signed by its own key and fits it", () => {
  const { cert, key } = makeSelfSignedCertificate("node-1", ["127.0.0.1", "10.0.0.7", "::1", "fe80::1:2", "node-1"]);
  const certificate = new X509Certificate(cert);
  assert.equal(certificate.subject, "CN=node-1");
  assert.ok(certificate.verify(certificate.publicKey));
  assert.ok(certificate.checkPrivateKey(createPrivateKey(key)));
  assert.ok(certificate.checkIssued(certificate));
  assert.ok(certificate.ca);
  for (const address of ["127.0.0.1", "10.0.0.7", "::1", "fe80::1:2"]) {
    assert.equal(certificate.checkIP(address), address);
  }
  assert.equal(certificate.checkIP("10.0.0.8"), undefined);
  assert.equal(certificate.checkHost("node-1"), "node-1");
  assert.ok(certificate.validFromDate.getTime() < Date.now());
  assert.ok(certificate.validToDate.getTime() > Date.now() + 360 * 86_400_000);
});

test("two certificates have numbers and keys of their own", () => {
  const [first, second] = [makeSelfSignedCertificate("a", ["a"]), makeSelfSignedCertificate("a", ["a"])];
  assert.notEqual(first.key, second.key);
  assert.notEqual(new X509Certificate(first.cert).serialNumber, new X509Certificate(second.cert).serialNumber);
});
