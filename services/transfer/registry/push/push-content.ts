import { ErrorKind, failure } from "#base/errors.ts";
import type { Turns } from "#base/turns.ts";
import type { Labels } from "#containerd/labels.ts";
import { findMountSource } from "../distribution-source.ts";
import type { RegistryHost } from "../hosts/host.ts";
import { headerOf } from "../http/http-message.ts";
import { readBounded } from "../http/read-bounded.ts";
import { RegistryError, wrapRegistryError } from "../http/registry-error.ts";
import { statusError } from "../http/status-error.ts";
import { isKeptAsManifest } from "../media-type.ts";
import type { Descriptor, PushRequest, TransferProgress } from "../ports.ts";
import type { Repository } from "../repository.ts";
import { manifestBytesMax } from "../resolve.ts";
import { uploadBlob } from "./upload-blob.ts";
import { checkStored, UploadClient } from "./upload-session.ts";

/** One descriptor on its way to a registry. */
export interface ContentPush extends Pick<PushRequest, "content" | "signal" | "onProgress"> {
  readonly repository: Repository;
  readonly descriptor: Descriptor;
  /** What the whole push is about: this one gets the tag. */
  readonly root: Descriptor;
  /** Its labels and those of what refers to it, the nearest first. Asked for when it has to be sent. */
  readonly findLabels: () => Promise<readonly (Labels | undefined)[]>;
  /** What may be sent at a time, in the whole push. */
  readonly sending: Turns;
}

/**
 * Brings one descriptor into the registry, unless it is there.
 *
 * @param isStored - What {@link isThere} has said already.
 * @throws {@link FlotillaError} `not_found` when no host may be pushed to; {@link RegistryError}
 * @source containerd v2.3.4 core/remotes/docker/pusher.go `dockerPusher.push`
 */
export async function pushContent(push: ContentPush, isStored?: boolean): Promise<void> {
  const { descriptor, sending, signal } = push;
  tell(push, "active", 0);
  if (isStored ?? (await isThere(push))) {
    tell(push, "existed", descriptor.size);
    return;
  }
  try {
    tell(push, await sending.run(() => send(push), signal), descriptor.size);
  } catch (error) {
    const isDenied = error instanceof RegistryError && error.refusal === "credentials";
    throw isDenied
      ? wrapRegistryError(error, "push access denied, repository does not exist or may require authorization")
      : error;
  }
}

async function send(push: ContentPush): Promise<"complete" | "mounted"> {
  const { repository, descriptor, content, findLabels, signal } = push;
  const host = pushHost(repository);
  if (isKeptAsManifest(descriptor.mediaType)) {
    const bytes = await readBounded(content.read(descriptor.digest, { offset: 0, signal }), {
      bytesMax: manifestBytesMax,
      excess: "refuse",
    });
    await putManifest(push, host, bytes);
    return "complete";
  }
  const outcome = await uploadBlob({
    ...push,
    uploads: new UploadClient(repository, host, signal),
    mountFrom: findMountSource(repository.reference, ...(await findLabels())),
    onOffset: (offset) => tell(push, "active", offset),
  });
  return outcome === "mounted" ? "mounted" : "complete";
}

function pushHost(repository: Repository): RegistryHost {
  const [host] = repository.hostsFor("push");
  if (host === undefined) {
    throw failure(ErrorKind.NotFound, "no push hosts");
  }
  return host;
}

function tell({ onProgress, descriptor }: ContentPush, state: TransferProgress["state"], offset: number): void {
  onProgress?.({ descriptor, state, offset });
}

/** Asks whether the registry has a descriptor. @throws as {@link pushContent}. */
export async function isThere(push: ContentPush): Promise<boolean> {
  const { repository, descriptor, signal } = push;
  const host = pushHost(repository);
  const path = pathOf(push);
  const headers = { accept: `${descriptor.mediaType}, */*` };
  const request = { host, path, headers, scopes: repository.scopes("push"), isLastHost: true, signal } as const;
  try {
    const response = await repository.send({ ...request, method: "HEAD" });
    const { status } = response;
    if (status !== 200 && status !== 404) {
      const error = await statusError(response);
      throw status === 403 ? await explain(error, () => repository.send({ ...request, method: "GET" })) : error;
    }
    await response.discard();
    const isNamedByDigest = path.endsWith(descriptor.digest);
    return status === 200 && (isNamedByDigest || headerOf(response, "docker-content-digest") === descriptor.digest);
  } catch (error) {
    if (error instanceof RegistryError && error.refusal === "credentials") {
      // Whether we are let in is told by the upload, in better words.
      return false;
    }
    throw error;
  }
}

/** A refused HEAD has no body. The same by GET may tell the reason. */
async function explain(error: RegistryError, get: () => ReturnType<Repository["send"]>): Promise<RegistryError> {
  try {
    const explained = await statusError({ ...(await get()), method: "HEAD" });
    return explained.status === error.status ? explained : error;
  } catch {
    return error;
  }
}

async function putManifest(push: ContentPush, host: RegistryHost, bytes: Uint8Array): Promise<void> {
  const { repository, descriptor, signal } = push;
  const { digest, mediaType } = descriptor;
  const response = await repository.send({
    host,
    method: "PUT",
    path: pathOf(push),
    headers: { "content-type": mediaType },
    body: { lengthBytes: bytes.length, open: () => bytes },
    scopes: repository.scopes("push"),
    isLastHost: true,
    signal,
  });
  await checkStored(response, digest);
}

/** By its tag when it is what the reference names, else by its digest. @source pusher.go `getManifestPath` */
function pathOf({ repository, descriptor, root }: ContentPush): string {
  const { digest, mediaType } = descriptor;
  if (!isKeptAsManifest(mediaType)) {
    return `blobs/${digest}`;
  }
  const { tag, digest: named } = repository.reference;
  const isTagged = tag !== "" && digest === (named === "" ? root.digest : named);
  return `manifests/${isTagged ? tag : digest}`;
}
