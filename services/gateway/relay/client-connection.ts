import type { Duplex } from "node:stream";
import { callHeader } from "#wire/call-id.ts";
import { wholeBuffer } from "#wire/http2/data-flow.ts";
import { EndpointStream } from "#wire/http2/endpoint-stream.ts";
import type { ReceivedHeaders } from "#wire/http2/header-intake.ts";
import { connectionWindowBytes } from "#wire/http2/limits.ts";
import { defaultWindowBytes, ErrorCode } from "#wire/http2/protocol.ts";
import type { RequestHead } from "#wire/http2/request-head.ts";
import { ServerConnection } from "#wire/http2/server-connection.ts";
import { ignoredStream } from "#wire/http2/stream-events.ts";
import type { MessageLimits } from "#wire/message-limits.ts";
import { type CallObserver, type CallUnderWay, joinWatchers } from "#wire/observe.ts";
import type { RpcHost } from "#wire/server.ts";
import { type ConnectionAccess, requestedCall } from "./access.ts";
import { encodeAnswer, encodeTrailers, endsWithTrailers, Refusal } from "./answer.ts";
import type { IdleUpstreams } from "./idle-upstreams.ts";
import { keptRequestsBytesMax, unfinishedRequestMs } from "./limits.ts";
import type { RelayCounts } from "./relay-counts.ts";
import { withFields } from "./request-fields.ts";
import { describeMissingRoute, findRoute, type RelayRoutes } from "./route.ts";
import { type KeepBudget, RelayedStream } from "./stream.ts";
import { type LinkOwner, UpstreamLink } from "./upstream-link.ts";

/** The methods that the relay's own process answers. */
export interface LocalAnswers {
  /** Name of the process in the routes. */
  readonly upstream: string;
  readonly host: RpcHost;
}

export interface ClientConnectionOptions {
  readonly routes: RelayRoutes;
  /** Told of every call that is passed on or refused. */
  readonly observer: CallObserver | undefined;
  /** What the client may call; undefined for everything. */
  readonly access: ConnectionAccess | undefined;
  /** What the relay's own process answers, if anything. */
  readonly local: LocalAnswers | undefined;
  /** Connections to processes whose clients have gone. */
  readonly idle: IdleUpstreams;
  readonly heldMsMax: number;
  readonly messageLimits: MessageLimits;
  readonly counts: RelayCounts;
  /** Opens a connection to a process. */
  connectUpstream(upstream: string): Duplex;
  onWarning(fields: object, message: string): void;
  /** The connection is over. */
  onGone(connection: ClientConnection): void;
}

/** The HTTP/2 connection of one client, with everything that the relay does for that client. */
export class ClientConnection extends ServerConnection<RelayedStream | EndpointStream> implements LinkOwner {
  readonly #options: ClientConnectionOptions;
  readonly #links = new Map<string, UpstreamLink>();
  readonly #keepBudget: KeepBudget = { leftBytes: keptRequestsBytesMax };

  constructor(socket: Duplex, options: ClientConnectionOptions) {
    super(socket, { windowBytes: connectionWindowBytes, streamWindowBytes: defaultWindowBytes });
    this.#options = options;
  }

  get messageLimits(): MessageLimits {
    return this.#options.messageLimits;
  }

  /** The calls under way, those that the relay's own process answers among them. */
  calls(): CallUnderWay[] {
    return [...this.streams.values()].flatMap((stream) =>
      stream instanceof RelayedStream ? stream : (stream.events.call ?? []),
    );
  }

  findStream(streamId: number): RelayedStream | undefined {
    const stream = this.streams.get(streamId);
    return stream instanceof RelayedStream ? stream : undefined;
  }

  relayedStreams(): RelayedStream[] {
    return [...this.streams.values()].filter((stream) => stream instanceof RelayedStream);
  }

  override endSent(streamId: number): void {
    const stream = this.findStream(streamId);
    if (stream !== undefined) {
      this.#finish(stream);
    }
  }

  resetByService(stream: RelayedStream, code: number): void {
    if (stream.down.isEnded && !stream.down.isEndSent) {
      stream.resetBehindEnd = code;
      this.#detach(stream);
    } else {
      this.#reset(stream, code);
    }
  }

  finishWithoutUpstream(stream: RelayedStream): void {
    stream.upstream = undefined;
    this.#detach(stream);
    this.#finish(stream);
  }

  refuse(stream: RelayedStream, refusal: Refusal, message: string): void {
    const { down, contentType, id } = stream;
    stream.upstream = undefined;
    stream.endCode = Number(refusal.grpcStatus);
    this.#options.counts.countRefusal(refusal);
    this.#detach(stream);
    if (!stream.hasResponse) {
      stream.hasResponse = true;
      const { headerBlock, body } = encodeAnswer(contentType, refusal, message);
      if (body === undefined) {
        down.passTrailers(wholeBuffer(headerBlock));
      } else {
        this.sendHeaders(id, wholeBuffer(headerBlock), false);
        down.append(body);
        down.passEnd();
      }
    } else if (endsWithTrailers(contentType)) {
      down.passTrailers(wholeBuffer(encodeTrailers(refusal, message)));
    } else {
      this.#reset(stream, ErrorCode.InternalError);
    }
  }

  requestEnded(stream: RelayedStream): void {
    this.#finish(stream);
  }

  /** Removes a stream that is over from all that knows it. */
  drop(stream: RelayedStream): void {
    this.removeStream(stream.id);
    stream.watcher?.end(stream.endCode, stream.beganMs);
    stream.watcher = undefined;
    if (stream.upstream === undefined && stream.method !== undefined) {
      this.#links.get(stream.method.upstream)?.forget(stream);
    }
    this.#detach(stream);
    stream.down.discard();
  }

  protected openStream(head: RequestHead, headers: ReceivedHeaders): void {
    const { streamId: id, endStream, list } = headers;
    const method = findRoute(this.#options.routes, head.path);
    const { local, access } = this.#options;
    const call = access === undefined ? undefined : requestedCall(head.path, list.fields);
    const denial = call === undefined ? undefined : access?.denialOf(call);
    if (denial === undefined && local !== undefined && method?.upstream === local.upstream) {
      this.#answerHere(local.host, headers);
      return;
    }
    const observed = this.#options.observer?.start?.("relay", head.path, list);
    const isVerbatim = observed?.fields === undefined && list.find(callHeader) === undefined;
    const block = isVerbatim ? list.block : withFields(list, observed?.fields ?? []);
    const request = { id, rpc: head.path, method, contentType: head.contentType, block };
    const stream = new RelayedStream(request, this, this.#keepBudget);
    const { up, down } = stream;
    up.source = this;
    up.receiveWindowBytes = defaultWindowBytes;
    up.isEnded = endStream;
    down.sink = this;
    down.sendWindowBytes = this.peerInitialWindowBytes;
    this.addStream(stream);
    stream.watcher = observed;
    if (denial !== undefined) {
      this.refuse(stream, Refusal.PermissionDenied, denial);
      return;
    }
    if (call !== undefined) {
      stream.audited = access?.watch(call);
      stream.watcher = joinWatchers(stream.watcher, stream.audited);
    }
    if (method === undefined) {
      this.refuse(stream, Refusal.Unimplemented, describeMissingRoute(this.#options.routes, head.path));
      return;
    }
    const link = this.#linkTo(method.upstream);
    const ready = link.findReady(id);
    if (ready === undefined) {
      link.hold(stream);
    } else {
      ready.take(stream, block === list.block ? headers : undefined);
    }
  }

  onDataRun(chunk: Buffer, start: number, end: number, payloadBytes: number): boolean {
    const stream = this.findStream(this.reader.streamId);
    if (stream?.takesRuns !== true || !stream.up.canPass(payloadBytes)) {
      return false;
    }
    this.admitData(payloadBytes);
    if (this.fitsBody(stream.id, payloadBytes, false)) {
      stream.watcher?.requestMessage(payloadBytes);
      stream.up.passRun(chunk, start, end, payloadBytes);
    } else {
      this.returnCredit(payloadBytes, undefined);
      this.failStream(stream, ErrorCode.ProtocolError);
    }
    return true;
  }

  protected override onInitialWindow(differenceBytes: number): void {
    for (const link of this.#links.values()) {
      link.announceWindow(this.peerInitialWindowBytes);
    }
    super.onInitialWindow(differenceBytes);
  }

  protected onWarning(error: unknown, message: string): void {
    this.#options.onWarning({ err: error }, message);
  }

  protected onEnding(): void {
    for (const stream of this.relayedStreams()) {
      stream.watcher?.end(stream.endCode, stream.beganMs);
      stream.watcher = undefined;
    }
    for (const link of this.#links.values()) {
      link.close();
    }
  }

  protected override onClosed(): void {
    super.onClosed();
    this.#options.onGone(this);
  }

  #answerHere(host: RpcHost, { streamId, endStream, list }: ReceivedHeaders): void {
    const windows = { sendBytes: this.peerInitialWindowBytes, receiveBytes: defaultWindowBytes };
    const stream = new EndpointStream(streamId, this, windows, ignoredStream);
    this.addStream(stream);
    host.acceptStream(stream, list);
    if (endStream) {
      stream.receiveTrailers(undefined);
    }
  }

  #linkTo(upstream: string): UpstreamLink {
    let link = this.#links.get(upstream);
    if (link === undefined) {
      const options = this.#options;
      link = new UpstreamLink(this, this.group, {
        upstream,
        idle: options.idle,
        heldMsMax: options.heldMsMax,
        counts: options.counts,
        connect: () => options.connectUpstream(upstream),
        onWarning: (fields, message) => options.onWarning(fields, message),
      });
      this.#links.set(upstream, link);
    }
    return link;
  }

  /** Removes a stream when both directions have ended, or the response has and nobody wants the rest of the request. */
  #finish(stream: RelayedStream): void {
    if (!stream.down.isEndSent) {
      return;
    }
    if (stream.resetBehindEnd !== undefined) {
      this.#reset(stream, stream.resetBehindEnd);
    } else if (stream.up.isEndSent || (stream.upstream === undefined && stream.up.isEnded)) {
      this.drop(stream);
    } else if (stream.upstream === undefined) {
      this.#stopLater(stream);
    }
  }

  /** Tells the client to send no more of a request that has been answered, unless it ends it soon by itself. */
  #stopLater(stream: RelayedStream): void {
    if (!stream.isToldToStop) {
      stream.isToldToStop = true;
      setTimeout(() => {
        if (this.streams.get(stream.id) === stream) {
          this.handle(() => this.#reset(stream, ErrorCode.NoError));
        }
      }, unfinishedRequestMs);
    }
  }

  #reset(stream: RelayedStream, code: number): void {
    this.sendReset(stream.id, code);
    this.drop(stream);
  }

  /** Parts a stream from its service; what the client still sends is thrown away. */
  #detach(stream: RelayedStream): void {
    const { upstream } = stream;
    stream.upstream = undefined;
    stream.releaseKept();
    stream.up.discard();
    upstream?.dropGated(stream);
    upstream?.streamGone();
  }
}
