import assert from "node:assert/strict";
import test from "node:test";
import * as fc from "fast-check";
import { FlotillaError } from "#base/errors.ts";
import { asByteString } from "#linux/bytes.ts";
import { blockBytes, MemberType, specialBytesMax, type TarMember } from "./tar-format.ts";
import { TarReader } from "./tar-reader.ts";
import { archiveEnd, encodeMember, paddingOf } from "./tar-writer.ts";

/** Archives tried in a run; `FLOTILLA_FUZZ_RUNS` sets more for a longer one. The seed is that of the run. */
const runs = Number(process.env["FLOTILLA_FUZZ_RUNS"] ?? 400);

const bytes = (maxLength: number): fc.Arbitrary<string> =>
  fc
    .uint8Array({ minLength: 1, maxLength })
    .map((array) => Buffer.from(array.map((byte) => byte || 1)).toString("latin1"));
const type = fc.constantFrom(
  MemberType.Directory,
  MemberType.HardLink,
  MemberType.Symlink,
  MemberType.Character,
  MemberType.Fifo,
  "0",
  "0",
);

/** A member as some archiver would have written it, with its content. */
const member = fc
  .record({
    type,
    name: bytes(300),
    linkName: bytes(120),
    mode: fc.nat(0o7777),
    user: fc.nat(2 ** 30),
    content: fc.uint8Array({ maxLength: 2_000 }),
    attribute: bytes(40),
  })
  .map(({ content, attribute, ...rest }) => {
    const data = rest.type === "0" ? Buffer.from(content) : Buffer.alloc(0);
    const encoded: TarMember = {
      name: asByteString(rest.name),
      linkName: asByteString(rest.linkName),
      type: rest.type,
      mode: rest.mode,
      user: rest.user,
      group: 0,
      sizeBytes: data.length,
      modified: { seconds: 1, nanoseconds: 0 },
      accessed: undefined,
      deviceMajor: 0,
      deviceMinor: 0,
      attributes: new Map([[asByteString(`user.${attribute.replaceAll("=", "-")}`), Buffer.from("v")]]),
    };
    return Buffer.concat([encodeMember(encoded), data, paddingOf(data.length)]);
  });

/** What is done to an archive: bytes set, a piece cut out, a piece repeated, header numbers made large. */
const damage = fc.oneof(
  fc.record({ kind: fc.constant("set" as const), at: fc.nat(), value: fc.nat(255) }),
  fc.record({ kind: fc.constant("cut" as const), at: fc.nat(), value: fc.nat(1_000) }),
  fc.record({ kind: fc.constant("repeat" as const), at: fc.nat(), value: fc.nat(2_000) }),
  fc.record({ kind: fc.constant("number" as const), at: fc.nat(), value: fc.nat(255) }),
);

function apply(archive: Buffer, { kind, at, value }: { kind: string; at: number; value: number }): Buffer {
  const position = at % Math.max(1, archive.length);
  switch (kind) {
    case "cut":
      return Buffer.concat([archive.subarray(0, position), archive.subarray(position + value)]);
    case "repeat":
      return Buffer.concat([archive.subarray(0, position + value), archive.subarray(position)]);
    case "number": {
      // The field of the size of some header, in base 256, with a sum that is right again.
      const header = position - (position % blockBytes);
      if (header + blockBytes <= archive.length) {
        archive.writeUInt32BE(0x8000_0000, header + 124);
        archive.writeUInt32BE((value << 24) >>> 0, header + 132);
        archive.fill(" ", header + 148, header + 156);
        const sum = archive.subarray(header, header + blockBytes).reduce((total, byte) => total + byte, 0);
        archive.write(`${sum.toString(8).padStart(6, "0")}\0 `, header + 148, "latin1");
      }
      return archive;
    }
    default:
      archive[position] = value;
      return archive;
  }
}

test("damaged archives are read or refused, with no more calls and bytes than they have", () => {
  fc.assert(
    fc.property(
      fc.array(member, { minLength: 1, maxLength: 5 }),
      fc.array(damage, { maxLength: 6 }),
      fc.integer({ min: 1, max: 3_000 }),
      (members, damages, chunkBytes) => {
        const whole = Buffer.concat([...members, archiveEnd]);
        const archive = damages.reduce(apply, whole);
        let begun = 0;
        let stored = 0;
        const reader = new TarReader({
          begin: ({ name, linkName, sizeBytes }) => {
            begun += 1;
            assert.ok(!name.includes("\0") && name.length <= specialBytesMax && linkName.length <= specialBytesMax);
            assert.ok(Number.isFinite(sizeBytes) && sizeBytes >= 0);
          },
          content: (data) => {
            stored += data.length;
          },
          hole: (sizeBytes) => assert.ok(Number.isFinite(sizeBytes) && sizeBytes >= 0),
          finish: () => undefined,
        });
        try {
          for (let offset = 0; offset < archive.length; offset += chunkBytes) {
            reader.write(archive.subarray(offset, offset + chunkBytes));
          }
          reader.end();
        } catch (error) {
          assert.ok(error instanceof FlotillaError, String(error));
        }
        assert.ok(begun <= archive.length / blockBytes, "a member has a header");
        assert.ok(stored <= archive.length, "content is in the archive");
      },
    ),
    { numRuns: runs },
  );
});
