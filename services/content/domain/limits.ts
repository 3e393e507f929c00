/** Largest chunk of a Read. @source containerd v2.3.4 plugins/services/content/contentserver/contentserver.go `bufPool` */
export const readChunkBytesMax = 1024 * 1024;

/** How many ingests may be open for writing at a time; each holds a file. */
export const openWritersMax = 2048;

/** How many blobs are locked together while they are being removed. */
export const removalBatchMax = 256;
