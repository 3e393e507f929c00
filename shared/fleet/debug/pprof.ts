import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import type { Profile } from "./profile.ts";

/** Where in the sources something happened. */
interface Frame {
  readonly functionName: string;
  readonly url: string;
  readonly lineNumber: number;
}

/** What was measured at the end of a stack, nearest frame first. */
interface Sample {
  readonly stack: readonly Frame[];
  readonly values: readonly number[];
}

/** Names of values and their units, in the order of a sample's values. */
type SampleTypes = readonly (readonly [name: string, unit: string])[];

const cpuTypes: SampleTypes = [
  ["samples", "count"],
  ["cpu", "nanoseconds"],
];
const heapTypes: SampleTypes = [
  ["inuse_objects", "count"],
  ["inuse_space", "bytes"],
];

/**
 * Encodes a profile as `go tool pprof` reads it, not compressed.
 *
 * @source google/pprof proto/profile.proto, message Profile
 */
export function encodePprof(taken: Profile): Uint8Array {
  return taken.kind === "cpu"
    ? new PprofWriter(cpuTypes, ["cpu", "nanoseconds"]).write(timeSamples(taken.profile), durationNs(taken.profile))
    : new PprofWriter(heapTypes, ["space", "bytes"]).write(heapSamples(taken.profile), 0);
}

type CpuProfile = Extract<Profile, { kind: "cpu" }>["profile"];
type HeapProfile = Extract<Profile, { kind: "heap" }>["profile"];

function durationNs({ startTime, endTime }: CpuProfile): number {
  return Math.round((endTime - startTime) * 1000);
}

/** Each sample counts for the time until the next. Those in which there was nothing to do are left out, as by Go. */
function timeSamples({ nodes, samples = [], timeDeltas = [] }: CpuProfile): Sample[] {
  const parents = new Map(nodes.flatMap(({ id, children = [] }) => children.map((child) => [child, id] as const)));
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const spent = new Map<number, { count: number; ns: number }>();
  for (const [index, id] of samples.entries()) {
    const entry = spent.get(id) ?? { count: 0, ns: 0 };
    entry.count += 1;
    entry.ns += 1000 * (timeDeltas[index + 1] ?? 0);
    spent.set(id, entry);
  }
  const busy = [...spent].filter(([id]) => byId.get(id)?.callFrame.functionName !== "(idle)");
  return busy.map(([id, { count, ns }]) => {
    const stack: Frame[] = [];
    for (let at: number | undefined = id; at !== undefined; at = parents.get(at)) {
      const frame = byId.get(at)?.callFrame;
      if (frame !== undefined && frame.functionName !== "(root)") {
        stack.push(frame);
      }
    }
    return { stack, values: [count, Math.max(0, ns)] };
  });
}

function heapSamples({ head }: HeapProfile): Sample[] {
  const found: Sample[] = [];
  const visit = (node: HeapProfile["head"], above: readonly Frame[]): void => {
    const stack = node.callFrame.functionName === "(root)" ? above : [node.callFrame, ...above];
    if (node.selfSize > 0) {
      found.push({ stack, values: [1, node.selfSize] });
    }
    for (const child of node.children) {
      visit(child, stack);
    }
  };
  visit(head, []);
  return found;
}

/** Writes one profile. Numbers in the comments are those of the fields. */
class PprofWriter {
  readonly #types: SampleTypes;
  readonly #period: readonly [name: string, unit: string];
  readonly #strings = new Map<string, number>([["", 0]]);
  readonly #places = new Map<string, { readonly id: number; readonly frame: Frame }>();

  constructor(types: SampleTypes, period: readonly [name: string, unit: string]) {
    this.#types = types;
    this.#period = period;
  }

  write(samples: readonly Sample[], durationNs: number): Uint8Array {
    const writer = new BinaryWriter();
    for (const type of this.#types) {
      // sample_type
      this.#valueType(writer.tag(1, WireType.LengthDelimited).fork(), type).join();
    }
    for (const { stack, values } of samples) {
      // sample: location_id, value
      const sample = writer.tag(2, WireType.LengthDelimited).fork();
      packed(
        sample,
        1,
        stack.map((frame) => this.#placeOf(frame)),
      );
      packed(sample, 2, values.map(Math.round));
      sample.join();
    }
    for (const { id, frame } of this.#places.values()) {
      this.#place(writer, id, frame);
    }
    // time_nanos, duration_nanos, period_type, period
    writer.tag(9, WireType.Varint).int64(BigInt(Date.now()) * 1_000_000n);
    writer.tag(10, WireType.Varint).int64(durationNs);
    this.#valueType(writer.tag(11, WireType.LengthDelimited).fork(), this.#period).join();
    writer.tag(12, WireType.Varint).int64(1);
    for (const text of this.#strings.keys()) {
      // string_table
      writer.tag(6, WireType.LengthDelimited).string(text);
    }
    return writer.finish();
  }

  /** location and function of one frame, under the same id. */
  #place(writer: BinaryWriter, id: number, { functionName, url, lineNumber }: Frame): void {
    const location = writer.tag(4, WireType.LengthDelimited).fork();
    location.tag(1, WireType.Varint).uint64(id);
    location.tag(4, WireType.LengthDelimited).fork();
    location.tag(1, WireType.Varint).uint64(id);
    location
      .tag(2, WireType.Varint)
      .int64(lineNumber + 1)
      .join();
    location.join();
    const name = this.#string(functionName === "" ? "(anonymous)" : functionName);
    const called = writer.tag(5, WireType.LengthDelimited).fork();
    called.tag(1, WireType.Varint).uint64(id);
    called.tag(2, WireType.Varint).int64(name);
    called.tag(3, WireType.Varint).int64(name);
    called.tag(4, WireType.Varint).int64(this.#string(url));
    called.join();
  }

  #valueType(writer: BinaryWriter, [name, unit]: readonly [name: string, unit: string]): BinaryWriter {
    writer.tag(1, WireType.Varint).int64(this.#string(name));
    return writer.tag(2, WireType.Varint).int64(this.#string(unit));
  }

  #placeOf(frame: Frame): number {
    const key = `${frame.functionName}\n${frame.url}\n${frame.lineNumber}`;
    let place = this.#places.get(key);
    if (place === undefined) {
      place = { id: this.#places.size + 1, frame };
      this.#places.set(key, place);
    }
    return place.id;
  }

  #string(text: string): number {
    let index = this.#strings.get(text);
    if (index === undefined) {
      index = this.#strings.size;
      this.#strings.set(text, index);
    }
    return index;
  }
}

function packed(writer: BinaryWriter, field: number, values: readonly number[]): void {
  writer.tag(field, WireType.LengthDelimited).fork();
  for (const value of values) {
    writer.int64(value);
  }
  writer.join();
}
