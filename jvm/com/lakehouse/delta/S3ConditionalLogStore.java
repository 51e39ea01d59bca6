package com.lakehouse.delta;

import io.delta.storage.HadoopFileSystemLogStore;
import java.io.ByteArrayOutputStream;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileAlreadyExistsException;
import java.util.Arrays;
import java.util.Iterator;
import java.util.concurrent.ThreadLocalRandom;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FSDataOutputStream;
import org.apache.hadoop.fs.FSDataOutputStreamBuilder;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.Path;

/**
 * A Delta log on S3 that any number of drivers may write: a commit is a put-if-absent (If-None-Match: *) by S3A's
 * conditional create, so of two drivers that write the same version one is refused and Delta resolves the conflict.
 * Delta's own S3SingleDriverLogStore locks inside one JVM only and lets the second overwrite the first.
 *
 * <p>A refused or failed put is looked up before it is reported. S3 may have kept a put whose answer was lost, and the
 * client's retry then meets its own commit; every commit carries a random transaction id, so equal bytes are ours.
 * Where nobody has the key, S3 refused because another request was at work on it (409) and wants the put repeated.
 */
public class S3ConditionalLogStore extends HadoopFileSystemLogStore {

  private static final String CONDITIONAL_OVERWRITE = "fs.option.create.conditional.overwrite";

  private static final long[] CONFLICT_WAITS_MS = {50, 100, 200, 400, 800, 1600, 3200};

  public S3ConditionalLogStore(Configuration hadoopConf) {
    super(hadoopConf);
  }

  @Override
  public void write(Path path, Iterator<String> actions, Boolean overwrite, Configuration hadoopConf)
      throws IOException {
    FileSystem fs = path.getFileSystem(hadoopConf);
    byte[] commit = bytes(actions); // a put may have to be repeated, the iterator gives its lines once
    if (overwrite) {
      put(fs.create(path, true), commit);
    } else {
      create(fs, path, commit);
    }
  }

  private static byte[] bytes(Iterator<String> actions) {
    ByteArrayOutputStream commit = new ByteArrayOutputStream();
    while (actions.hasNext()) {
      commit.writeBytes((actions.next() + "\n").getBytes(StandardCharsets.UTF_8));
    }
    return commit.toByteArray();
  }

  private static void put(FSDataOutputStream stream, byte[] commit) throws IOException {
    try {
      stream.write(commit);
    } catch (IOException | RuntimeException failure) {
      stream.abort(); // closing would publish half a commit
      throw failure;
    }
    stream.close(); // the put happens here
  }

  private static void create(FileSystem fs, Path path, byte[] commit) throws IOException {
    IOException refused = null;
    for (long wait : CONFLICT_WAITS_MS) {
      try {
        put(createIfAbsent(fs, path), commit);
        return;
      } catch (IOException failure) {
        if (isOurs(fs, path, commit, failure)) {
          return;
        }
        refused = failure;
      }
      pause(wait, refused);
    }
    throw new IOException(
        path + ": refused " + CONFLICT_WAITS_MS.length + " times although nobody has it; run the task again", refused);
  }

  /** A stream whose close fails where the key exists; S3A's create(path, false) would overwrite it. */
  private static FSDataOutputStream createIfAbsent(FileSystem fs, Path path) throws IOException {
    FSDataOutputStreamBuilder<?, ?> builder = fs.createFile(path).overwrite(true);
    builder.must(CONDITIONAL_OVERWRITE, true); // a file system that does not know the option refuses here
    return builder.build();
  }

  /** Whether the stored commit is ours; false where there is none. Throws where the version is taken or unreadable. */
  private static boolean isOurs(FileSystem fs, Path path, byte[] ours, IOException failure) throws IOException {
    byte[] stored;
    try (InputStream in = fs.open(path)) {
      stored = in.readAllBytes();
    } catch (FileNotFoundException absent) {
      return false;
    } catch (IOException unreadable) {
      failure.addSuppressed(unreadable);
      throw failure;
    }
    if (!Arrays.equals(stored, ours)) {
      FileAlreadyExistsException taken = new FileAlreadyExistsException(path.toString());
      taken.initCause(failure);
      throw taken;
    }
    return true;
  }

  /** Waits, up to double by chance, so that writers who met once do not meet again. */
  private static void pause(long millis, IOException failure) throws IOException {
    try {
      Thread.sleep(millis + ThreadLocalRandom.current().nextLong(millis));
    } catch (InterruptedException stopped) {
      Thread.currentThread().interrupt();
      throw failure;
    }
  }

  /** S3 shows an object whole or not at all. */
  @Override
  public Boolean isPartialWriteVisible(Path path, Configuration hadoopConf) {
    return false;
  }
}
