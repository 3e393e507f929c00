import net from "node:net";
import type { Duplex } from "node:stream";
import { type ConfigureRequest, Plugin, Runtime, type SynchronizeRequest } from "#gen/nri/pkg/api/v1alpha1/api_pb.ts";
import { bindService, type Handlers } from "#wire/handler.ts";
import { type TtrpcClient, ttrpcClientOver } from "#wire/ttrpc/client.ts";
import { serveTtrpcOver } from "#wire/ttrpc/server.ts";
import { Multiplex } from "../../services/cri/nri/plugins/multiplex.ts";

/** What a plugin does; what is absent it does not know, as plugins of old. */
export type PluginHandlers = Partial<Handlers<typeof Plugin>>;

/** A plugin of NRI, as a program of somebody else would be. */
export class NriTestPlugin implements Disposable {
  readonly runtime: TtrpcClient;
  readonly #multiplex: Multiplex;
  readonly #configured = Promise.withResolvers<ConfigureRequest>();
  readonly #synchronized = Promise.withResolvers<SynchronizeRequest>();

  constructor(connection: Duplex, handlers: PluginHandlers, { events = 0 } = {}) {
    this.#multiplex = new Multiplex(connection);
    const served = this.#multiplex.open(1);
    this.runtime = ttrpcClientOver(this.#multiplex.open(2));
    const all: PluginHandlers = {
      configure: (request) => {
        this.#configured.resolve(request);
        return { events };
      },
      synchronize: (request) => {
        this.#synchronized.resolve(request);
        return {};
      },
      ...handlers,
    };
    serveTtrpcOver(served, [bindService(Plugin, all)]);
    this.#multiplex.start();
  }

  /** Connects to the socket of NRI and registers. */
  static async connect(
    socketPath: string,
    { name, index, events = 0 }: { readonly name: string; readonly index: string; readonly events?: number },
    handlers: PluginHandlers,
  ): Promise<NriTestPlugin> {
    const socket = net.connect(socketPath);
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve).once("error", reject);
    });
    const plugin = new NriTestPlugin(socket, handlers, { events });
    await plugin.register(name, index);
    return plugin;
  }

  async register(pluginName: string, pluginIdx: string): Promise<void> {
    await this.runtime.unary(Runtime.method.registerPlugin, { pluginName, pluginIdx, NRIVersion: "v0.12.0" });
  }

  /** Resolves when it has been configured. */
  get configured(): Promise<ConfigureRequest> {
    return this.#configured.promise;
  }

  /** Resolves when it has been told of all that is there. */
  get synchronized(): Promise<SynchronizeRequest> {
    return this.#synchronized.promise;
  }

  get closed(): Promise<void> {
    return this.runtime.closed;
  }

  [Symbol.dispose](): void {
    this.#multiplex.close();
  }
}
