import type { Duplex } from "node:stream";
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { ErrorKind, FlotillaError, isFailure, wrapFailure } from "#base/errors.ts";
import type { Logger } from "#fleet/log.ts";
import type { NotedDeprecations } from "#fleet/noted-deprecations.ts";
import {
  type Container,
  type ContainerUpdate,
  Event,
  Plugin as PluginService,
  type PodSandbox,
  Runtime,
  type UpdateContainersRequest,
} from "#gen/nri/pkg/api/v1alpha1/api_pb.ts";
import { bindService } from "#wire/handler.ts";
import { type TtrpcClient, ttrpcClientOver } from "#wire/ttrpc/client.ts";
import { serveTtrpcOver } from "#wire/ttrpc/server.ts";
import { isConnectionClosed } from "#wire/ttrpc/status.ts";
import type { NriMetrics } from "../../metrics/nri-metrics.ts";
import { connectionIds, Multiplex } from "./multiplex.ts";
import { checkPluginIndex, checkPluginName } from "./plugin-name.ts";

/** Every event that there is. @source containerd/nri v0.12 pkg/api/event.go `ValidEvents` */
const everyEvent = 2 ** (Event.LAST - 1) - 1;

/** Pods and containers told of in one call at the start: a message may hold 4 MiB. */
const synchronizedMax = 200;

/** How plugins are spoken with. */
export interface PluginOptions {
  readonly runtimeName: string;
  readonly runtimeVersion: string;
  readonly registrationMs: number;
  readonly requestMs: number;
  readonly log: Logger;
  readonly metrics: NriMetrics;
  /** Is told of ways in use that are going to be taken away. */
  readonly deprecations: Pick<NotedDeprecations, "note">;
  /** Does what a plugin asks for by itself, and gives back what could not be done. */
  readonly updateContainers: (request: UpdateContainersRequest) => Promise<ContainerUpdate[]>;
}

/** A program that we have started for a plugin. */
export interface LaunchedProgram {
  readonly index: string;
  readonly base: string;
  readonly config: string;
  stop(): void;
}

/** @source containerd v2.3.4 pkg/deprecation/deprecation.go `NRIPluginInterface`; internal/nri/deprecations.go */
const deprecatedInterface = {
  id: "io.containerd.deprecation/nri-plugin-interface",
  message: "NRI plugin uses a deprecated interface.",
} as const;

/** The version of the interface that is told to plugins. */
const interfaceVersion = "v0.12.0";

/**
 * A plugin that is connected.
 *
 * It registers, is configured, is told of everything that is there, and then of what happens. One that takes too long or breaks the
 * protocol is let go of.
 *
 * @source containerd/nri v0.12 pkg/adaptation/plugin.go
 */
export class NriPlugin {
  readonly #options: PluginOptions;
  /** Events that it knows no methods for. */
  readonly #toldInOldWay = new Set<Event>();
  readonly #program: LaunchedProgram | undefined;
  readonly #multiplex: Multiplex;
  readonly #client: TtrpcClient;
  readonly #registered = Promise.withResolvers<void>();
  #index: string;
  #base: string;
  #events = 0;
  #isClosed = false;

  /** @param program - What we have started; undefined for a plugin that has connected by itself. */
  constructor(connection: Duplex, options: PluginOptions, program?: LaunchedProgram) {
    this.#options = options;
    this.#program = program;
    this.#index = program?.index ?? "";
    this.#base = program?.base ?? "";
    this.#registered.promise.catch(() => undefined);
    this.#multiplex = new Multiplex(connection);
    const runtimeConnection = this.#multiplex.open(connectionIds.runtime);
    this.#client = ttrpcClientOver(this.#multiplex.open(connectionIds.plugin));
    const handlers = {
      registerPlugin: (request: { pluginName: string; pluginIdx: string }) => this.#register(request),
      updateContainers: async (request: UpdateContainersRequest) => ({
        failed: await options.updateContainers(request),
      }),
    };
    serveTtrpcOver(runtimeConnection, [bindService(Runtime, handlers)]);
    void this.#client.closed.then(() => {
      this.#isClosed = true;
      this.#registered.reject(new FlotillaError(ErrorKind.Unknown, "failed to register plugin, connection closed"));
    });
  }

  /** Its place and its name. */
  get name(): string {
    return `${this.#index}-${this.#base}`;
  }

  get index(): string {
    return this.#index;
  }

  get base(): string {
    return this.#base;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Resolves when it is gone. */
  get closed(): Promise<void> {
    return this.#client.closed;
  }

  /** Whether it wants to be told of something. */
  wants(event: Event): boolean {
    return Math.floor(this.#events / 2 ** (event - 1)) % 2 === 1;
  }

  /** Waits until it has registered, and configures it. @throws When it does not in time; it is gone then. */
  async start(): Promise<void> {
    this.#multiplex.start();
    const timer = setTimeout(
      () => this.#registered.reject(new FlotillaError(ErrorKind.Unknown, "plugin registration timed out")),
      this.#options.registrationMs,
    );
    try {
      await this.#registered.promise;
      await this.#configure();
    } catch (error) {
      // It is told first what is wrong with what it said.
      await new Promise(setImmediate);
      this.close();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Tells it of all that is there. @returns What it changes. @throws When it can't take it; it is gone then. */
  async synchronize(pods: readonly PodSandbox[], containers: readonly Container[]): Promise<ContainerUpdate[]> {
    try {
      for (let offset = 0; ; offset += synchronizedMax) {
        const more = Math.max(pods.length, containers.length) > offset + synchronizedMax;
        const answer = await this.#call(PluginService.method.synchronize, {
          pods: pods.slice(offset, offset + synchronizedMax),
          containers: containers.slice(offset, offset + synchronizedMax),
          more,
        });
        if (!more) {
          return answer.update;
        }
        if (answer.update.length > 0 || !answer.more) {
          throw new FlotillaError(ErrorKind.Unknown, "plugin does not handle split sync requests");
        }
      }
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /**
   * Tells it of something, if it wants to know, and takes its answer.
   *
   * @returns undefined when it does not want to know, or had to be let go of.
   * @throws What it answered.
   */
  async tell<I extends DescMessage, O extends DescMessage>(
    event: Event,
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
  ): Promise<MessageShape<O> | undefined> {
    if (!this.wants(event) || this.#isClosed) {
      return undefined;
    }
    const { metrics } = this.#options;
    const startedMs = performance.now();
    try {
      const answer = await this.#call(method, request);
      metrics.answered(this.name, method.name, { startedMs, answer });
      return answer;
    } catch (error) {
      metrics.failed(this.name, method.name, { startedMs, error });
      return await this.#settle(error, event, method.name);
    }
  }

  /**
   * Tells it of something that needs no answer. Plugins of old, which do not know the method, are told in their way.
   *
   * @throws What it answered.
   * @source containerd/nri v0.12 pkg/adaptation/plugin_type.go `wrapOrigImpl`
   */
  async notify<I extends DescMessage, O extends DescMessage>(
    event: Event,
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I> & { readonly pod?: PodSandbox; readonly container?: Container },
  ): Promise<void> {
    try {
      await this.tell(event, method, request);
    } catch (error) {
      if (!isFailure(error, ErrorKind.NotImplemented)) {
        throw error;
      }
      this.#noteOldWay(event);
      const { pod, container } = request;
      await this.tell(event, PluginService.method.stateChange, {
        event,
        ...(pod === undefined ? {} : { pod }),
        ...(container === undefined ? {} : { container }),
      });
    }
  }

  #noteOldWay(event: Event): void {
    if (!this.#toldInOldWay.has(event)) {
      this.#toldInOldWay.add(event);
      this.#options.deprecations.note(deprecatedInterface);
      this.#options.log.warn({ deprecated: "StateChange", plugin: this.name, event }, deprecatedInterface.message);
    }
  }

  /** Lets it go, and ends its program if it is ours. */
  close(): void {
    this.#isClosed = true;
    this.#multiplex.close();
    this.#client.close();
    this.#program?.stop();
  }

  #register({ pluginName, pluginIdx }: { pluginName: string; pluginIdx: string }): Record<string, never> {
    if (this.#program === undefined) {
      try {
        checkPluginName(pluginName);
        checkPluginIndex(pluginIdx);
      } catch (error) {
        this.#registered.reject(wrapFailure(error, `plugin "${pluginName}" registered with an invalid name or index`));
        throw error;
      }
      this.#base = pluginName;
      this.#index = pluginIdx;
    }
    this.#registered.resolve();
    return {};
  }

  async #configure(): Promise<void> {
    const { runtimeName, runtimeVersion, registrationMs, requestMs } = this.#options;
    let events: number;
    try {
      ({ events } = await this.#call(PluginService.method.configure, {
        config: this.#program?.config ?? "",
        runtimeName,
        runtimeVersion,
        registrationTimeout: BigInt(Math.round(registrationMs)),
        requestTimeout: BigInt(Math.round(requestMs)),
        NRIVersion: interfaceVersion,
      }));
    } catch (error) {
      throw wrapFailure(error, "failed to configure plugin");
    }
    if (events < 0 || events > everyEvent) {
      throw new FlotillaError(ErrorKind.Unknown, `invalid plugin events: 0x${(events >>> 0).toString(16)}`);
    }
    this.#events = events === 0 ? everyEvent : events;
  }

  async #call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
  ): Promise<MessageShape<O>> {
    return await this.#client.unary(method, request, { timeoutMs: this.#options.requestMs });
  }

  /** A plugin that can't be reached or is late is let go of, and counts as having said nothing. */
  async #settle(error: unknown, event: Event, method: string): Promise<undefined> {
    if (!isConnectionClosed(error) && !isFailure(error, ErrorKind.DeadlineExceeded)) {
      throw error;
    }
    this.#options.log.error({ plugin: this.name, event, method, err: error }, "a plugin is let go of");
    this.close();
    return undefined;
  }
}
