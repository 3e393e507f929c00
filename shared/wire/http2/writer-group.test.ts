import assert from "node:assert/strict";
import { Duplex } from "node:stream";
import test from "node:test";
import { FrameWriter } from "./frame-writer.ts";
import { WriterGroup } from "./writer-group.ts";

test("what passes on to others is written before what goes back to whoever caused it", () => {
  const group = new WriterGroup();
  const written: string[] = [];
  const writerTo = (name: string) =>
    new FrameWriter(
      new Duplex({
        write(_bytes, _encoding, done) {
          written.push(name);
          done();
        },
      }),
      group,
    );
  const client = writerTo("client");
  const service = writerTo("service");
  const pass = () => {
    client.windowUpdate(0, 1);
    service.windowUpdate(0, 1);
  };
  group.run(pass, client);
  assert.deepEqual(written, ["service", "client"]);
  group.run(pass, service);
  assert.deepEqual(written.slice(2), ["client", "service"]);
});
