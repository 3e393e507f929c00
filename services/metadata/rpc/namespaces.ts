import { ErrorKind, errorMessage, FlotillaError } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { applyFieldMask, maskedMap } from "#containerd/field-mask.ts";
import { type Labels, validateLabels } from "#containerd/labels.ts";
import { Namespaces } from "#gen/containerd/services/namespaces/v1/namespaces_pb.ts";
import { bindService, type Handlers, type ServiceBinding } from "#wire/handler.ts";
import type { NamespaceContents, NamespaceStore } from "../store/namespaces.ts";
import { encodedResponse } from "./encoded.ts";

/**
 * Answers the Namespaces service. Its calls need no namespace header.
 *
 * @param contents - The stores of what goes with a namespace that is deleted.
 * @source containerd v2.3.4 plugins/services/namespaces/local.go
 */
export function namespacesService(namespaces: NamespaceStore, contents: readonly NamespaceContents[]): ServiceBinding {
  return bindService(Namespaces, {
    // A namespace that does not exist is answered like one without labels, as containerd does.
    get: ({ name }) => ({ namespace: { name, labels: namespaces.labels(name) } }),
    list: () => encodedResponse(namespaces.list()),
    create: async ({ namespace }) => {
      const { name = "", labels = {} } = namespace ?? {};
      await namespaces.create(name, labels);
      return { namespace: { name, labels } };
    },
    update: async ({ namespace, updateMask }) => {
      const { name = "", labels: wanted = {} } = namespace ?? {};
      const paths = updateMask?.paths ?? [];
      await namespaces.update(name, (labels) => changeLabels(labels, wanted, paths), wanted);
      return {};
    },
    delete: async ({ name }) => {
      await namespaces.remove(name, contents);
      return {};
    },
  } satisfies Handlers<typeof Namespaces>);
}

/** A mask may name single labels alone; without one, all labels are replaced. */
function changeLabels(labels: Record<string, string>, wanted: Labels, paths: readonly string[]): Labels {
  const changed = { labels };
  if (paths.length === 0) {
    changed.labels = { ...wanted };
  }
  const { replaceEntry } = maskedMap(changed, "labels", wanted, "");
  applyFieldMask(
    paths,
    { labels: { replaceEntry } },
    (path) => new FlotillaError(ErrorKind.InvalidArgument, `cannot update ${quote(path)} field`),
  );
  validateAsUnknown(changed.labels);
  return changed.labels;
}

/** containerd lets this error of its store through without a class. */
function validateAsUnknown(labels: Labels): void {
  try {
    validateLabels(labels, "namespace.Labels");
  } catch (error) {
    throw new FlotillaError(ErrorKind.Unknown, errorMessage(error), { cause: error });
  }
}
