import { callHeader } from "#wire/call-id.ts";
import { HeaderBlockBuilder } from "#wire/http2/header-encoder.ts";
import type { HeaderList } from "#wire/http2/header-list.ts";

/** The header block of a request with fields of ours in place of the client's; which call it is only we say. */
export function withFields(list: HeaderList, more: readonly (readonly [name: string, value: string])[]): Buffer {
  const block = new HeaderBlockBuilder();
  for (let at = 0; at < list.fields.length; at += 2) {
    const name = list.fields[at] as string;
    if (name !== callHeader && !more.some(([replaced]) => replaced === name)) {
      block.add(name, list.fields[at + 1] as string, 0x00);
    }
  }
  for (const [name, value] of more) {
    block.add(name, value, 0x00);
  }
  return block.build();
}
