import { setTimeout as delay } from "node:timers/promises";
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { ErrorKind, FlotillaError, isFailure } from "#base/errors.ts";
import { Task as TaskV2 } from "#gen/containerd/task/v2/shim_pb.ts";
import { Task } from "#gen/containerd/task/v3/shim_pb.ts";
import type { CallObserver } from "#wire/observe.ts";
import { connectTtrpc, type TtrpcClient } from "#wire/ttrpc/client.ts";
import { isConnectionClosed, ttrpcNamespaceHeader } from "#wire/ttrpc/status.ts";
import { type SupervisorCallOptions, SupervisorGone } from "../domain/supervisor.ts";
import type { ShimEndpoint } from "./bootstrap.ts";
import type { Bundle } from "./bundles.ts";
import { removeDeadSocket } from "./socket-file.ts";

/** The first version of the task service in which one shim may serve a sandbox with all its containers. */
export const sandboxVersion = 3;

/** What a shim needs of its surroundings. */
export interface ShimSurroundings {
  readonly bundle: Bundle;
  /** Told of the calls to the shim. */
  readonly observer: CallObserver | undefined;
  /** How long its end may take, in milliseconds. */
  readonly shutdownTimeoutMs: number;
  /** Whether other containers use the shim at this address. */
  isShared(address: string): boolean;
  /** What is left to do when the shim of a deleted container has ended. */
  afterShutdown(): Promise<void>;
  /** Called once, when the connection to the shim has ended. */
  onEnd(): void;
}

/**
 * The connection to a shim on behalf of one bundle: of a container, or of a sandbox. Methods of the task service are spoken in the version
 * that the shim knows; those of any other service go as they are.
 */
export class Shim {
  /** Where it listens, as `protocol+address`, so that others may join it. */
  readonly address: string;
  /** Resolves when the shim is gone without having been asked to; never rejects, and never resolves after `shutDown` or `letGo`. */
  readonly died: Promise<void>;
  readonly #client: TtrpcClient;
  readonly #endpoint: ShimEndpoint;
  readonly #surroundings: ShimSurroundings;
  #version: number;
  #released = false;

  private constructor(client: TtrpcClient, endpoint: ShimEndpoint, surroundings: ShimSurroundings) {
    this.#client = client;
    this.#endpoint = endpoint;
    this.#surroundings = surroundings;
    this.#version = endpoint.version;
    this.address = `${endpoint.protocol}+${endpoint.address}`;
    this.died = new Promise((resolve) => {
      void client.closed.then(() => {
        surroundings.onEnd();
        if (!this.#released) {
          resolve();
        }
      });
    });
  }

  /**
   * Connects to a shim.
   *
   * @throws {@link FlotillaError} `unavailable` when nobody listens; `unknown` for a protocol other than ttrpc.
   */
  static async connect(endpoint: ShimEndpoint, surroundings: ShimSurroundings, timeoutMs: number): Promise<Shim> {
    if (endpoint.protocol.toLowerCase() !== "ttrpc") {
      throw new FlotillaError(ErrorKind.Unknown, `unexpected protocol: "${endpoint.protocol}"`);
    }
    return new Shim(
      await connectTtrpc(endpoint.address, { timeoutMs, observer: surroundings.observer }),
      endpoint,
      surroundings,
    );
  }

  /** Version of the task service that it speaks. */
  get version(): number {
    return this.#version;
  }

  /**
   * Calls a method of one of its services for the namespace of the bundle.
   *
   * @throws {@link FlotillaError} what the shim answered, text unchanged; {@link SupervisorGone} when it died.
   */
  async call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options: SupervisorCallOptions = {},
  ): Promise<MessageShape<O>> {
    try {
      return await this.#client.unary(method, request, {
        ...options,
        metadata: { [ttrpcNamespaceHeader]: this.#surroundings.bundle.namespace },
        ...(this.#version < sandboxVersion && method.parent.typeName === Task.typeName
          ? { serviceName: TaskV2.typeName }
          : {}),
      });
    } catch (error) {
      throw isConnectionClosed(error) ? new SupervisorGone({ cause: error }) : error;
    }
  }

  /**
   * Calls a method; if the shim does not know the service, once more in version 2, in which the shim is spoken to from then on.
   *
   * @source containerd v2.3.4 core/runtime/v2/shim.go `Downgrade`
   */
  async callOrDowngrade<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options?: SupervisorCallOptions,
  ): Promise<MessageShape<O>> {
    try {
      return await this.call(method, request, options);
    } catch (error) {
      if (!isFailure(error, ErrorKind.NotImplemented) || this.#version < sandboxVersion) {
        throw error;
      }
      this.#version = sandboxVersion - 1;
      return this.call(method, request, options);
    }
  }

  /**
   * Asks the shim to end and waits until it is gone, bounded. A shim that has other containers stays.
   */
  async shutDown(): Promise<void> {
    this.#released = true;
    const { bundle, shutdownTimeoutMs } = this.#surroundings;
    const asked = this.call(Task.method.shutdown, { id: bundle.id }, { timeoutMs: shutdownTimeoutMs }).catch(
      () => undefined,
    );
    if (this.#surroundings.isShared(this.#endpoint.address)) {
      await asked;
      this.#client.close();
      await this.#surroundings.afterShutdown();
      return;
    }
    const waiting = new AbortController();
    await Promise.race([
      this.#client.closed,
      delay(shutdownTimeoutMs, undefined, { signal: waiting.signal }).catch(() => undefined),
    ]);
    waiting.abort();
    this.#client.close();
    // A shim removes its socket when it ends, unless it was killed or its bundle was faster.
    await removeDeadSocket(this.#endpoint.address);
    await this.#surroundings.afterShutdown();
  }

  /** Closes the connection; the shim goes on. */
  letGo(): void {
    this.#released = true;
    this.#client.close();
  }
}
