import assert from "node:assert/strict";
import test from "node:test";
import { decodeHuffman, measureHuffman } from "./huffman.ts";

function decode(hex: string): string | undefined {
  const coded = Buffer.from(hex, "hex");
  const lengthBytes = measureHuffman(coded, 0, coded.length);
  return lengthBytes === -1 ? undefined : decodeHuffman(coded, 0, coded.length);
}

test("the strings of RFC 7541 appendix C are decoded", () => {
  assert.equal(decode("f1e3c2e5f23a6ba0ab90f4ff"), "www.example.com");
  assert.equal(decode("a8eb10649cbf"), "no-cache");
  assert.equal(decode("25a849e95ba97d7f"), "custom-key");
  assert.equal(decode("25a849e95bb8e8b4bf"), "custom-value");
  assert.equal(decode("6402"), "302");
  assert.equal(decode("d07abe941054d444a8200595040b8166e082a62d1bff"), "Mon, 21 Oct 2013 20:13:21 GMT");
  assert.equal(
    decode("94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007"),
    "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
  );
  assert.equal(decode(""), "");
});

test("the measure is the length of what is decoded", () => {
  const coded = Buffer.from("00f1e3c2e5f23a6ba0ab90f4ff00", "hex");
  assert.equal(measureHuffman(coded, 1, coded.length - 1), "www.example.com".length);
});

test("what is no coding is found", () => {
  assert.equal(decode("ff"), undefined, "eight bits of padding");
  assert.equal(decode("f1e3c2e5f23a6ba0ab90f4ffff"), undefined, "an octet of padding too much");
  assert.equal(decode("1f"), "a");
  assert.equal(decode("18"), undefined, "padding of zeros");
  assert.equal(decode("3fffffff"), undefined, "the end-of-string symbol");
  assert.equal(decode("fffffffc"), undefined, "the end-of-string symbol, aligned");
});
