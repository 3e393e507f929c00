import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import {
  type Content,
  WriteAction,
  type WriteContentRequestSchema,
  type WriteContentResponse,
} from "#gen/containerd/services/content/v1/content_pb.ts";
import { clientHeaders } from "#wire/headers.ts";

type WriteRequest = MessageInitShape<typeof WriteContentRequestSchema>;

/** In whose name a test calls. */
export interface TestCaller {
  readonly namespace: string;
  readonly lease?: string;
}

/** One Write call, driven message by message as Go's remote writer does. */
export class WriteCall {
  readonly #abort = new AbortController();
  readonly #responses: AsyncIterator<WriteContentResponse>;
  readonly #queue: (WriteRequest | undefined)[] = [];
  #wake: () => void = () => undefined;

  constructor(client: Client<typeof Content>, { namespace, lease }: TestCaller) {
    const headers = clientHeaders(namespace, lease);
    this.#responses = client.write(this.#requests(), { headers, signal: this.#abort.signal })[Symbol.asyncIterator]();
  }

  /** Sends a message and waits for its answer. */
  async send(request: WriteRequest): Promise<WriteContentResponse> {
    this.post(request);
    const response = await this.receive();
    if (response === undefined) {
      throw new Error("the call ended without an answer");
    }
    return response;
  }

  /** Sends a message without waiting. */
  post(request: WriteRequest): void {
    this.#queue.push(request);
    this.#wake();
  }

  /** The next answer, or undefined when the call has ended well. */
  async receive(): Promise<WriteContentResponse | undefined> {
    const next = await this.#responses.next();
    return next.done === true ? undefined : next.value;
  }

  /** Opens the ingest and asks how far it is. */
  stat(request: WriteRequest): Promise<WriteContentResponse> {
    return this.send({ action: WriteAction.STAT, ...request });
  }

  write(data: Uint8Array, offset: bigint): Promise<WriteContentResponse> {
    return this.send({ action: WriteAction.WRITE, data, offset });
  }

  /** Asks for the blob and sends nothing more. Unless the request has other labels, no collector takes the blob. */
  commit(request: WriteRequest): Promise<WriteContentResponse> {
    const answer = this.send({ action: WriteAction.COMMIT, labels: { "containerd.io/gc.root": "1" }, ...request });
    this.#end();
    return answer;
  }

  /** Says that no more messages come, and collects the answers that are left. */
  async finish(): Promise<WriteContentResponse[]> {
    this.#end();
    const rest: WriteContentResponse[] = [];
    for (let response = await this.receive(); response !== undefined; response = await this.receive()) {
      rest.push(response);
    }
    return rest;
  }

  /** Breaks the call off, as a client that dies does. */
  cancel(): void {
    this.#abort.abort();
  }

  #end(): void {
    this.#queue.push(undefined);
    this.#wake();
  }

  async *#requests(): AsyncGenerator<WriteRequest, void, undefined> {
    for (;;) {
      while (this.#queue.length === 0) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
      const next = this.#queue.shift();
      if (next === undefined) {
        return;
      }
      yield next;
    }
  }
}
