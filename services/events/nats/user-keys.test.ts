import assert from "node:assert/strict";
import { test } from "node:test";
import { nkeys } from "nats";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { makeUserSeed, publicKeyOf, signNonce } from "./user-keys.ts";

/** What the library of NATS makes of keys, which it has without types. */
interface Keys {
  getSeed(): Uint8Array;
  getPublicKey(): string;
  verify(input: Uint8Array, signature: Uint8Array): boolean;
}
const library = nkeys as {
  createUser(): Keys;
  fromSeed(seed: Uint8Array): Keys;
  fromPublic(key: string): Keys;
  createAccount(): Keys;
};

test("Keys that are made are those of a user by NATS's own library", () => {
  for (let made = 0; made < 20; made += 1) {
    const seed = makeUserSeed();
    assert.match(seed, /^SU[A-Z2-7]{56}$/);
    assert.equal(publicKeyOf(seed), library.fromSeed(Buffer.from(seed)).getPublicKey());
  }
  assert.notEqual(makeUserSeed(), makeUserSeed());
});

test("Keys that NATS's own library has made are understood", () => {
  const keys = library.createUser();
  assert.equal(publicKeyOf(Buffer.from(keys.getSeed()).toString("latin1")), keys.getPublicKey());
});

test("A signature is good for the text that was signed alone", () => {
  const seed = makeUserSeed();
  const signature = Buffer.from(signNonce(seed, "nonce"), "base64");
  const reader = library.fromPublic(publicKeyOf(seed));
  assert.equal(reader.verify(Buffer.from("nonce"), signature), true);
  assert.equal(reader.verify(Buffer.from("other"), signature), false);
});

test("What is no private key of a user is refused", () => {
  const seed = makeUserSeed();
  const damaged = `${seed.slice(0, 20)}${seed[20] === "A" ? "B" : "A"}${seed.slice(21)}`;
  const account = Buffer.from(library.createAccount().getSeed()).toString("latin1");
  for (const text of ["", "S", "su", damaged, seed.slice(0, -1), publicKeyOf(seed), account]) {
    assert.throws(
      () => publicKeyOf(text),
      (error) => isFailure(error, ErrorKind.FailedPrecondition),
      text,
    );
  }
});
