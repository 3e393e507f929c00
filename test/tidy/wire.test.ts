import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import test from "node:test";
import { pathToFileURL } from "node:url";
import type { DescField, DescFile, DescMessage } from "@bufbuild/protobuf";

/** The public packages. What they say is fixed by clients that are built elsewhere. */
const publicPackages = /^(?:containerd|io\.containerd|grpc|google\.rpc|nri|runtime|runtimeoptions|ttrpc)\b/;

function describeType(field: DescField): string {
  const { proto } = field;
  const element = `${proto.type}${proto.typeName}`;
  return `${proto.label}:${field.fieldKind === "map" ? `map ${element}` : element}`;
}

function describeMessage(message: DescMessage): string[] {
  return [
    ...message.fields.map((field) => `${message.typeName}.${field.name} = ${field.number} ${describeType(field)}`),
    ...message.nestedMessages.flatMap(describeMessage),
    ...message.nestedEnums.flatMap((nested) =>
      nested.values.map((value) => `${nested.typeName}.${value.name} = ${value.number}`),
    ),
  ];
}

function describeFile(file: DescFile): string[] {
  return [
    ...file.services.flatMap((service) =>
      service.methods.map(
        (method) =>
          `${service.typeName}/${method.name} ${method.methodKind} ${method.input.typeName} ${method.output.typeName}`,
      ),
    ),
    ...file.messages.flatMap(describeMessage),
    ...file.enums.flatMap((each) => each.values.map((value) => `${each.typeName}.${value.name} = ${value.number}`)),
  ];
}

async function describeWire(): Promise<string[]> {
  const lines: string[] = [];
  for (const path of globSync("shared/gen/**/*_pb.ts")) {
    const module = (await import(pathToFileURL(resolve(path)).href)) as Record<string, unknown>;
    for (const [name, value] of Object.entries(module)) {
      const file = value as DescFile;
      if (name.startsWith("file_") && publicPackages.test(file.proto.package)) {
        lines.push(...describeFile(file));
      }
    }
  }
  return lines.sort();
}

test("the public wire contract is the recorded one, name for name and number for number", async () => {
  const recorded = readFileSync(new URL("wire.txt", import.meta.url), "utf8")
    .trimEnd()
    .split("\n");
  assert.deepEqual(await describeWire(), recorded);
});
