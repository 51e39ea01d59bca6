package com.lakehouse.delta;

import io.delta.storage.HadoopFileSystemLogStore;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileAlreadyExistsException;
import java.security.DigestInputStream;
import java.security.DigestOutputStream;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Iterator;
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
 */
public class S3ConditionalLogStore extends HadoopFileSystemLogStore {

  private static final String CONDITIONAL_OVERWRITE = "fs.option.create.conditional.overwrite";

  public S3ConditionalLogStore(Configuration hadoopConf) {
    super(hadoopConf);
  }

  @Override
  public void write(Path path, Iterator<String> actions, Boolean overwrite, Configuration hadoopConf)
      throws IOException {
    FileSystem fs = path.getFileSystem(hadoopConf);
    FSDataOutputStream stream = overwrite ? fs.create(path, true) : createIfAbsent(fs, path);
    MessageDigest written = sha256();
    try {
      OutputStream digesting = new DigestOutputStream(stream, written);
      while (actions.hasNext()) {
        digesting.write((actions.next() + "\n").getBytes(StandardCharsets.UTF_8));
      }
    } catch (IOException | RuntimeException failure) {
      stream.abort(); // closing would publish half a commit
      throw failure;
    }
    try {
      stream.close(); // the put happens here
    } catch (IOException failure) {
      if (overwrite) {
        throw failure;
      }
      settle(fs, path, written.digest(), failure);
    }
  }

  /** A stream whose close fails where the key exists; S3A's create(path, false) would overwrite it. */
  private static FSDataOutputStream createIfAbsent(FileSystem fs, Path path) throws IOException {
    FSDataOutputStreamBuilder<?, ?> builder = fs.createFile(path).overwrite(true);
    builder.must(CONDITIONAL_OVERWRITE, true); // a file system that does not know the option refuses here
    return builder.build();
  }

  /** Returns if the stored commit is ours; else says that the version is taken, or that nothing was stored. */
  private static void settle(FileSystem fs, Path path, byte[] ours, IOException failure) throws IOException {
    MessageDigest stored = sha256();
    try (InputStream in = new DigestInputStream(fs.open(path), stored)) {
      in.transferTo(OutputStream.nullOutputStream());
    } catch (IOException absentOrUnreadable) {
      failure.addSuppressed(absentOrUnreadable);
      throw failure;
    }
    if (!MessageDigest.isEqual(stored.digest(), ours)) {
      FileAlreadyExistsException taken = new FileAlreadyExistsException(path.toString());
      taken.initCause(failure);
      throw taken;
    }
  }

  private static MessageDigest sha256() {
    try {
      return MessageDigest.getInstance("SHA-256");
    } catch (NoSuchAlgorithmException impossible) {
      throw new IllegalStateException(impossible); // every JRE has to have it
    }
  }

  /** S3 shows an object whole or not at all. */
  @Override
  public Boolean isPartialWriteVisible(Path path, Configuration hadoopConf) {
    return false;
  }
}
