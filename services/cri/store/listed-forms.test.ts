import assert from "node:assert/strict";
import test from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { ImageSchema, ListImagesResponseSchema } from "#gen/runtime/v1/api_pb.ts";
import { ListedForms } from "./listed-forms.ts";

test("a thing is encoded again only when it has changed, and a list holds all of them in pieces", () => {
  const encoded: string[] = [];
  const forms = new ListedForms(
    ({ id }: { id: string; state: number }) => {
      encoded.push(id);
      return toBinary(ImageSchema, create(ImageSchema, { id }));
    },
    ({ state }) => state,
  );
  const ids = (bytes: Uint8Array): string[] => fromBinary(ListImagesResponseSchema, bytes).images.map(({ id }) => id);
  const [one, two, three] = ["a", "b".repeat(300), "c"].map((id) => ({ id, state: 1 }));
  assert.ok(one && two && three);
  assert.deepEqual(ids(forms.list([one, two, three]).bytes), [one.id, two.id, three.id]);
  two.state = 2;
  assert.deepEqual(
    [...forms.pieces([one, two, three], 2)].map(({ bytes }) => ids(bytes)),
    [[one.id, two.id], [three.id]],
  );
  assert.deepEqual(encoded, [one.id, two.id, three.id, two.id]);
  assert.equal(forms.list([]).sizeBytes, 0);
});
