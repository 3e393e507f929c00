import type { Server } from "node:net";
import { ErrorKind, errorMessage, FlotillaError, isFailure } from "#base/errors.ts";
import { KeyedLock } from "#base/keyed-lock.ts";
import {
  type Container,
  type ContainerUpdate,
  Event,
  Plugin as PluginService,
  type PodSandbox,
  type UpdateContainersRequest,
  type ValidateContainerAdjustmentRequest,
} from "#gen/nri/pkg/api/v1alpha1/api_pb.ts";
import { listen } from "#wire/listen.ts";
import { NriPlugin, type PluginOptions } from "./connected-plugin.ts";
import { findInstalledPlugins, type InstalledPlugin, isWebAssembly, launchPlugin } from "./installed-plugins.ts";

/** Plugins that may be connected at a time, with those that have not registered yet. */
const pluginsMax = 100;

/** Where plugins come from. */
export interface PluginSetOptions extends Omit<PluginOptions, "updateContainers"> {
  /** "" for no plugins that connect by themselves. */
  readonly socketPath: string;
  readonly pluginDirectory: string;
  readonly configDirectory: string;
  /** All that is there, for a plugin that is new. */
  readonly describeAll: () => Promise<{
    readonly pods: readonly PodSandbox[];
    readonly containers: readonly Container[];
  }>;
  /** Does what plugins ask for, and gives back what could not be done. */
  readonly update: (updates: readonly ContainerUpdate[]) => Promise<ContainerUpdate[]>;
  readonly evict: (containerIds: readonly string[]) => Promise<void>;
}

/**
 * The plugins that are there, in the order of their indices. One thing at a time is told to them, all of them.
 *
 * @source containerd/nri v0.12 pkg/adaptation/adaptation.go `Adaptation`
 */
export class PluginSet implements AsyncDisposable {
  readonly #options: PluginSetOptions;
  readonly #turns = new KeyedLock<"plugins">();
  #plugins: NriPlugin[] = [];
  #server: Server | undefined;
  /** Work that plugins which are new must not come between. */
  #held = 0;
  #onIdle: (() => void)[] = [];

  constructor(options: PluginSetOptions) {
    this.#options = options;
    options.metrics.watchPlugins(() => this.#active().length);
  }

  /** Whether nobody has to be told of anything. */
  get isEmpty(): boolean {
    return this.#plugins.every(({ isClosed }) => isClosed);
  }

  /** Starts the plugins that are installed and lets others connect. @throws When the socket can't be had, or a name or configuration is bad. */
  async start(): Promise<void> {
    const { pluginDirectory, configDirectory, socketPath } = this.#options;
    for (const installed of await findInstalledPlugins(pluginDirectory, configDirectory)) {
      await this.#launch(installed);
    }
    if (socketPath !== "") {
      const options = { socketPath, socketMode: 0o700, connectionsMax: pluginsMax };
      this.#server = await listen(
        options,
        (socket) => void this.#welcome(new NriPlugin(socket, this.#pluginOptions())),
      );
    }
  }

  /**
   * Does something between whose beginning and end no plugin is told of all that is there, so that none misses or sees twice what is being made.
   */
  async during<T>(act: () => Promise<T>): Promise<T> {
    this.#held += 1;
    try {
      return await act();
    } finally {
      this.#held -= 1;
      if (this.#held === 0) {
        for (const resolve of this.#onIdle.splice(0)) {
          resolve();
        }
      }
    }
  }

  /** Does something with each plugin in turn, while nothing else is told to any. */
  async each(act: (plugin: NriPlugin) => Promise<void>): Promise<void> {
    await this.#turns.run(["plugins"], async () => {
      for (const plugin of this.#active()) {
        await act(plugin);
      }
    });
  }

  /** Asks those that want to judge a change. @throws {@link FlotillaError} when one does not let it stand. */
  async validate(request: ValidateContainerAdjustmentRequest): Promise<void> {
    const validators = this.#active().filter((plugin) => plugin.wants(Event.VALIDATE_CONTAINER_ADJUSTMENT));
    await Promise.all(
      validators.map(async (plugin) => {
        let answer: { readonly reject: boolean; readonly reason: string } | undefined;
        try {
          answer = await plugin.tell(
            Event.VALIDATE_CONTAINER_ADJUSTMENT,
            PluginService.method.validateContainerAdjustment,
            request,
          );
        } catch (error) {
          if (isFailure(error, ErrorKind.NotImplemented)) {
            // It has asked for everything and judges nothing.
            return;
          }
          throw new FlotillaError(ErrorKind.Unknown, `validator plugin ${plugin.name} failed: ${errorMessage(error)}`);
        }
        if (answer === undefined) {
          throw new FlotillaError(ErrorKind.Unknown, `validator plugin ${plugin.name} failed: it has gone`);
        }
        if (answer.reject) {
          const reason = answer.reason === "" ? "unknown rejection reason" : answer.reason;
          throw new FlotillaError(
            ErrorKind.Unknown,
            `validator "${plugin.name}" rejected container adjustment, reason: ${reason}`,
          );
        }
      }),
    );
  }

  /** The plugins that are asked, for those who judge. */
  names(): { readonly name: string; readonly index: string }[] {
    return this.#active().map(({ base, index }) => ({ name: base, index }));
  }

  /** Lets all plugins go. */
  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise<void>((resolve) => {
      if (this.#server === undefined) {
        resolve();
      } else {
        this.#server.close(() => resolve());
      }
    });
    for (const plugin of this.#plugins) {
      plugin.close();
    }
    this.#plugins = [];
    await closed;
  }

  async #launch(installed: InstalledPlugin): Promise<void> {
    const { log } = this.#options;
    if (await isWebAssembly(installed.path)) {
      log.warn({ plugin: installed.path }, "a plugin of WebAssembly can't be run");
      return;
    }
    const { connection, program } = launchPlugin(installed, () => connection.destroy());
    await this.#welcome(new NriPlugin(connection, this.#pluginOptions(), program));
  }

  /** Starts a plugin and tells it of all that is there. Never rejects. */
  async #welcome(plugin: NriPlugin): Promise<void> {
    const { log } = this.#options;
    try {
      await plugin.start();
      await this.#idle();
      const updates = await this.#turns.run(["plugins"], async () => {
        const { pods, containers } = await this.#options.describeAll();
        const asked = await plugin.synchronize(pods, containers);
        this.#plugins = [...this.#active(), plugin].sort((one, other) => (one.index < other.index ? -1 : 1));
        return asked;
      });
      await this.#options.update(updates);
      log.info({ plugin: plugin.name }, "a plugin is connected");
      void plugin.closed.then(() => log.info({ plugin: plugin.name }, "a plugin has gone"));
    } catch (error) {
      log.error({ plugin: plugin.name, err: error }, "a plugin is not taken in");
      plugin.close();
    }
  }

  async #idle(): Promise<void> {
    while (this.#held > 0) {
      await new Promise<void>((resolve) => this.#onIdle.push(resolve));
    }
  }

  #active(): NriPlugin[] {
    this.#plugins = this.#plugins.filter(({ isClosed }) => !isClosed);
    return this.#plugins;
  }

  #pluginOptions(): PluginOptions {
    return {
      ...this.#options,
      updateContainers: async ({ update, evict }: UpdateContainersRequest) =>
        await this.#turns.run(["plugins"], async () => {
          const failed = await this.#options.update(update);
          await this.#options.evict(evict.map(({ containerId }) => containerId));
          return failed;
        }),
    };
  }
}
