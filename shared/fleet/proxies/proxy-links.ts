import type { ProcessContext } from "../run.ts";
import { ProxyLink } from "./proxy-link.ts";

/** Names the bound of a call to a proxy plugin in `[timeouts]`; 0s for none. */
const callTimeout = "io.flotilla.timeout.proxy.call";
/** What holds where nobody sets it. Some plugins unpack a whole layer in one call. */
const callMsDefault = 5 * 60_000;

/** The ways of a process to its proxy plugins, one for each address, closed with its resources. */
export class ProxyLinks {
  readonly #context: Pick<ProcessContext, "config" | "resources">;
  readonly #links = new Map<string, ProxyLink>();

  constructor(context: Pick<ProcessContext, "config" | "resources">) {
    this.#context = context;
  }

  /** The way to a socket. Nothing is connected before the first call. */
  get({ name, address }: { readonly name: string; readonly address: string }): ProxyLink {
    const { config, resources } = this.#context;
    let link = this.#links.get(address);
    if (link === undefined) {
      link = resources.adopt(
        new ProxyLink({ name, address, callMsMax: () => config.timeoutsMs.get(callTimeout) ?? callMsDefault }),
        (open) => open.close(),
      );
      this.#links.set(address, link);
    }
    return link;
  }
}
