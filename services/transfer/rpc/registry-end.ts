import { ErrorKind, failure, wrapFailure } from "#base/errors.ts";
import {
  AuthRequestSchema,
  AuthResponseSchema,
  AuthType,
  HTTPDebug,
  type OCIRegistry,
} from "#gen/containerd/types/transfer/registry_pb.ts";
import type { CredentialSource, Credentials, RegistryRequest } from "../registry/ports.ts";
import { packMessage, unpackMessage } from "../streams/any.ts";
import type { Stream } from "../streams/stream.ts";
import { TextSender } from "../streams/text-sender.ts";

/** How long a client may take to answer for its credentials: a person may be asked. */
const answerMsMax = 5 * 60_000;

export interface RegistryEndOptions {
  /** A stream of the client by its id, closed with the transfer. @throws {@link FlotillaError} `not_found` */
  readonly openStream: (id: string) => Stream;
  /** Whether the client's streams are gone for good. */
  readonly hasLostStreams: boolean;
  /** Directories with a folder for each registry, where the client names none. */
  readonly hostDirectories: readonly string[];
  /** Takes what is told of requests when the client has no stream for it. */
  readonly onExchange: (text: string) => void;
  readonly onWarning: (text: string) => void;
  readonly onWaiting: NonNullable<RegistryRequest["onWaiting"]>;
}

/**
 * The registry that a client means, with its streams taken up.
 *
 * @throws {@link FlotillaError} `not_found` when a stream is not open.
 * @source containerd v2.3.4 core/transfer/registry/registry.go `UnmarshalAny`
 */
export function registryRequest(
  { reference, resolver }: OCIRegistry,
  { openStream, hasLostStreams, hostDirectories, onExchange, onWarning, onWaiting }: RegistryEndOptions,
): RegistryRequest {
  const { authStream = "", logsStream = "", hostDir = "", httpDebug = HTTPDebug.DISABLED } = resolver ?? {};
  const request = {
    reference,
    hostDirectories: hostDir === "" ? hostDirectories : hostDir.split(":"),
    defaultScheme: resolver?.defaultScheme ?? "",
    headers: { ...resolver?.headers },
    onWarning,
    onWaiting,
    ...(authStream === "" ? {} : { credentials: hasLostStreams ? askNobody : askClient(openStream(authStream)) }),
  };
  return httpDebug === HTTPDebug.DISABLED
    ? request
    : { ...request, onExchange: logsStream === "" || hasLostStreams ? onExchange : openLog(openStream, logsStream) };
}

function openLog(openStream: (id: string) => Stream, id: string): (text: string) => void {
  try {
    const sender = new TextSender(openStream(id));
    return (text) => sender.write(text);
  } catch (error) {
    throw wrapFailure(error, "failed to get stream for HTTP debug logs");
  }
}

const askNobody: CredentialSource = ({ host }) =>
  Promise.reject(
    failure(
      ErrorKind.Unavailable,
      `the process died by which the client was to be asked for its credentials at ${host}`,
    ),
  );

function askClient(stream: Stream): CredentialSource {
  return async ({ host, reference, challenges }) => {
    await stream.send(packMessage(AuthRequestSchema, { host, reference, wwwauthenticate: [...challenges] }));
    const answer = await inTime(stream.receive(), host);
    if (answer === undefined) {
      throw failure(ErrorKind.Unavailable, `the client does not answer for its credentials at ${host}`);
    }
    const { authType, secret, username } = unpackMessage(AuthResponseSchema, answer);
    return credentialsOf(authType, { secret, username });
  };
}

function credentialsOf(
  type: AuthType,
  { secret, username }: { readonly secret: string; readonly username: string },
): Credentials {
  switch (type) {
    case AuthType.CREDENTIALS:
      return { kind: "password", username, secret };
    case AuthType.REFRESH:
      return secret === "" ? { kind: "none" } : { kind: "refresh", secret };
    case AuthType.HEADER:
      return { kind: "header", value: secret };
    default:
      return { kind: "none" };
  }
}

async function inTime<T>(answer: Promise<T>, host: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(
      () => reject(failure(ErrorKind.DeadlineExceeded, `the client was asked for its credentials at ${host}`)),
      answerMsMax,
    );
  });
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}
