import { ErrorKind, failure } from "#base/errors.ts";
import type { Link, Question, Reply } from "./link.ts";

/** What the stream shall be. */
export interface StreamSettings {
  /** Name, and first part of its subjects. */
  readonly name: string;
  readonly retentionAgeMs: number;
  readonly retentionBytes: number;
  /** Copies in a cluster. */
  readonly replicas: number;
  /** For how long the server itself recognises a message id that it has seen. */
  readonly duplicateWindowMs: number;
}

/** What the stream is. */
export interface StreamState {
  /** When it was made; tells it from another of the same name. */
  readonly created: string;
  readonly firstSequence: number;
  /** 0 when nothing has ever been stored. */
  readonly lastSequence: number;
}

const nsPerMs = 1e6;
const requestMsMax = 5_000;
/** @source nats-server v2.9.10 server/errors.json `JSStreamNotFoundErr` */
const streamNotFound = 10_059;

/**
 * Makes the stream if it is not there, and gives it the wanted bounds if it has others. Stored events stay.
 *
 * @throws {@link FlotillaError} `unavailable` when the server does not answer, does not have JetStream, or refuses.
 * @source NATS docs, "JetStream wire API reference"
 */
export async function prepareStream(link: Link, settings: StreamSettings): Promise<StreamState> {
  const ageNs = Math.round(settings.retentionAgeMs * nsPerMs);
  const wanted = {
    name: settings.name,
    subjects: [`${settings.name}.>`],
    retention: "limits",
    storage: "file",
    discard: "old",
    max_age: ageNs,
    max_bytes: settings.retentionBytes,
    max_msgs: -1,
    max_consumers: -1,
    num_replicas: settings.replicas,
    duplicate_window: Math.min(settings.duplicateWindowMs * nsPerMs, ageNs > 0 ? ageNs : Infinity),
    allow_direct: true,
  };
  const found = await requestApi(link, `STREAM.INFO.${settings.name}`, {});
  if (found.error?.err_code === streamNotFound) {
    return stateOf(await requestOk(link, `STREAM.CREATE.${settings.name}`, wanted));
  }
  refuseError(found, "STREAM.INFO");
  const config: Readonly<Record<string, unknown>> = found.config ?? {};
  const differs = Object.entries(wanted).some(([key, value]) => JSON.stringify(config[key]) !== JSON.stringify(value));
  return stateOf(differs ? await requestOk(link, `STREAM.UPDATE.${settings.name}`, { ...config, ...wanted }) : found);
}

/** Asks what is in the stream. @throws {@link FlotillaError} `unavailable` */
export async function readStreamState(link: Link, name: string): Promise<StreamState> {
  return stateOf(await requestOk(link, `STREAM.INFO.${name}`, {}));
}

interface ApiResponse {
  readonly error?: { readonly code: number; readonly err_code?: number; readonly description?: string };
  readonly config?: Readonly<Record<string, unknown>>;
  readonly created?: string;
  readonly state?: { readonly first_seq?: number; readonly last_seq?: number };
}

function stateOf({ created, state }: ApiResponse): StreamState {
  return { created: created ?? "", firstSequence: state?.first_seq ?? 0, lastSequence: state?.last_seq ?? 0 };
}

async function requestOk(link: Link, call: string, body: unknown): Promise<ApiResponse> {
  const response = await requestApi(link, call, body);
  refuseError(response, call);
  return response;
}

function refuseError({ error }: ApiResponse, call: string): void {
  if (error !== undefined) {
    throw failure(
      ErrorKind.Unavailable,
      `${call}: ${error.description ?? "refused"} (${error.err_code ?? error.code})`,
    );
  }
}

async function requestApi(link: Link, call: string, body: unknown): Promise<ApiResponse> {
  const reply = await request(link, {
    subject: `$JS.API.${call}`,
    headers: "",
    body: Buffer.from(JSON.stringify(body)),
  });
  if (reply.status !== 0) {
    throw failure(ErrorKind.Unavailable, `${call}: the NATS server has no JetStream (${reply.status})`);
  }
  return JSON.parse(Buffer.from(reply.body).toString("utf8")) as ApiResponse;
}

/**
 * Asks and waits for the reply, bounded.
 *
 * @throws {@link FlotillaError} `unavailable` when the link closes or nothing comes.
 */
export async function request(link: Link, question: Question): Promise<Reply> {
  const [reply] = await requestAll(link, [question]);
  if (reply === undefined) {
    throw failure(ErrorKind.Internal, `no reply to ${question.subject}`);
  }
  return reply;
}

/**
 * Asks many things at once and waits for all replies, bounded.
 *
 * @returns The replies in the order of the questions.
 * @throws {@link FlotillaError} `unavailable` when the link closes or a reply does not come.
 */
export async function requestAll(link: Link, questions: readonly Question[]): Promise<Reply[]> {
  const replies: Reply[] = [];
  const end = Promise.withResolvers<"complete" | "closed" | "late">();
  let missing = questions.length;
  if (missing === 0) {
    return replies;
  }
  const tickets = questions.map((question, index) =>
    link.ask(question, (reply) => {
      replies[index] = reply;
      missing--;
      if (missing === 0) {
        end.resolve("complete");
      }
    }),
  );
  const timer = setTimeout(() => end.resolve("late"), requestMsMax);
  const stopListening = link.onClose(() => end.resolve("closed"));
  const outcome = await end.promise;
  clearTimeout(timer);
  stopListening();
  for (const ticket of tickets) {
    link.forget(ticket);
  }
  if (outcome !== "complete") {
    throw failure(ErrorKind.Unavailable, `NATS did not answer ${questions[0]?.subject} (${outcome})`);
  }
  return replies;
}
