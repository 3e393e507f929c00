import { privateSocketOf } from "#fleet/process-name.ts";
import { connectRpc } from "#wire/client.ts";
import type { Descriptor } from "../../services/transfer/registry/ports.ts";
import { defaultRegistriesSettings, Registries } from "../../services/transfer/registry/registry.ts";
import { ContentPeers, TransferContent } from "../../services/transfer/store/content.ts";

/** A program that downloads one layer, for somebody to kill. Its argument says what, from where and to where. */
const { state, reference, layer } = JSON.parse(process.argv[2] ?? "") as {
  readonly state: string;
  readonly reference: string;
  readonly layer: Descriptor;
};
const connection = connectRpc(privateSocketOf(state, "content"));
const peers = new ContentPeers({ content: connection, metadata: connection });
const content = new TransferContent(peers, { namespace: "test", lease: "" });
await using registry = await new Registries(defaultRegistriesSettings, "containerd/test").open({
  reference,
  hostDirectories: [],
  defaultScheme: "http",
  headers: {},
});
await registry.download(layer, { content, labels: {}, signal: AbortSignal.timeout(60_000) });
connection.close();
