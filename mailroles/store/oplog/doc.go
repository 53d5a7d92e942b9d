// Package oplog keeps records in order in files, and says when the disk has them.
//
// Records are numbered from 1 without a gap. Those that wait at the same time are written as one batch and made durable
// by one fdatasync. A batch is whole or it is not there: it has a checksum, its length and the index of its first
// record.
//
//	magic 4 | CRC-32C of what follows 4 | length 4 | records 4 | index of the first 8 | (length 4 | record)…
//
// A log is a directory of segments, each called after the index of its first record. The room that a segment takes is
// filled with zeros ahead of its records, so that a full disk is found out before a record is taken, and so that a
// write changes no length. Some of the room is kept for records that help to free space.
//
// After a failed write nobody knows what the disk has, and a second fsync would lie about it: a log that failed once
// refuses everything, and must be opened again, which writes its last segment anew from what can be read. Open cuts off
// a batch that a crash tore. What is damaged before whole batches is told, and those are not lost.
//
// A Log must be closed. All methods are safe for concurrent use.
package oplog
