/** A record that is kept encoded, with its name. */
export interface NamedRecord {
  readonly name: string;
  readonly message: Uint8Array;
}
