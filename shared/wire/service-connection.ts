import type { Duplex } from "node:stream";
import { idOfStream, originName } from "./call-id.ts";
import { EndpointStream } from "./http2/endpoint-stream.ts";
import type { ReceivedHeaders } from "./http2/header-intake.ts";
import type { HeaderList } from "./http2/header-list.ts";
import { endpointConnectionWindowBytes, endpointStreamWindowBytes } from "./http2/limits.ts";
import { ConnectionFault, clientPreface, ErrorCode } from "./http2/protocol.ts";
import type { RequestHead } from "./http2/request-head.ts";
import { ServerConnection } from "./http2/server-connection.ts";
import type { PeerSettings } from "./http2/settings.ts";
import { ignoredStream } from "./http2/stream-events.ts";
import { defaultMessageLimits, limitsOfSettings, type MessageLimits } from "./message-limits.ts";

/** Who answers the streams of a connection. */
export interface StreamAcceptor {
  /** Takes a stream and sets its events. */
  acceptStream(stream: EndpointStream, request: HeaderList): void;
  connectionGone(connection: ServiceConnection): void;
  onWarning(error: unknown, message: string): void;
}

/** The connection of a client to a process that answers it itself. */
export class ServiceConnection extends ServerConnection<EndpointStream> {
  readonly #acceptor: StreamAcceptor;
  #messageLimits = defaultMessageLimits;
  /** What the client calls the connection. */
  #origin: string | undefined;
  /** How much of the client's preface has arrived. */
  #prefaceBytes = 0;

  constructor(socket: Duplex, acceptor: StreamAcceptor) {
    super(socket, { windowBytes: endpointConnectionWindowBytes, streamWindowBytes: endpointStreamWindowBytes });
    this.#acceptor = acceptor;
  }

  get messageLimits(): MessageLimits {
    return this.#messageLimits;
  }

  override callIdOf(streamId: number): string | undefined {
    return this.#origin === undefined ? undefined : idOfStream(this.#origin, streamId);
  }

  override receive(chunk: Buffer): void {
    const start = this.#prefaceBytes;
    if (start === clientPreface.length) {
      super.receive(chunk);
      return;
    }
    const taken = Math.min(chunk.length, clientPreface.length - start);
    this.#prefaceBytes += taken;
    if (clientPreface.compare(chunk, 0, taken, start, start + taken) !== 0) {
      this.handle(() => {
        throw new ConnectionFault(ErrorCode.ProtocolError, "the client does not begin with the preface");
      });
    } else if (this.#prefaceBytes === clientPreface.length) {
      this.start(chunk.subarray(taken));
    }
  }

  protected openStream(_head: RequestHead, { streamId, endStream, list }: ReceivedHeaders): void {
    const windows = { sendBytes: this.peerInitialWindowBytes, receiveBytes: endpointStreamWindowBytes };
    const stream = new EndpointStream(streamId, this, windows, ignoredStream);
    this.addStream(stream);
    this.#acceptor.acceptStream(stream, list);
    if (endStream) {
      stream.receiveTrailers(undefined);
    }
  }

  protected override onSettings(settings: PeerSettings): void {
    this.#messageLimits = limitsOfSettings(settings, this.#messageLimits);
    const { callOriginProcess, callOriginNumber } = settings;
    if (callOriginProcess !== undefined && callOriginNumber !== undefined) {
      this.#origin = originName(callOriginProcess, callOriginNumber);
    }
  }

  protected onWarning(error: unknown, message: string): void {
    this.#acceptor.onWarning(error, message);
  }

  protected onEnding(): void {}

  protected override onClosed(): void {
    super.onClosed();
    this.#acceptor.connectionGone(this);
  }
}
