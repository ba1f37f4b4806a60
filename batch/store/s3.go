package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// S3 is a bucket of a server that speaks S3.
type S3 struct {
	client *minio.Client
	bucket string
	prefix string // of all names; "" or with a / at its end
}

// S3Options say how to reach a bucket.
type S3Options struct {
	URL      string // s3://BUCKET/PREFIX
	Endpoint string // https://HOST:PORT of the server; "": Amazon's
	Region   string
	// Key and Secret; both empty: those of the environment (AWS_ACCESS_KEY_ID, …) or of the machine's role.
	Key, Secret string
}

// IsS3 reports whether a place is a bucket, not a folder.
func IsS3(place string) bool { return strings.HasPrefix(place, "s3://") }

// OpenS3 opens a bucket, which must exist.
func OpenS3(ctx context.Context, o S3Options) (*S3, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "s3" || u.Host == "" {
		return nil, fmt.Errorf("%q: s3://BUCKET or s3://BUCKET/PREFIX is needed", o.URL)
	}
	endpoint := &url.URL{Scheme: "https", Host: "s3.amazonaws.com"}
	if o.Endpoint != "" {
		if endpoint, err = url.Parse(o.Endpoint); err != nil || endpoint.Host == "" {
			return nil, fmt.Errorf("S3 endpoint %q: a URL such as https://minio.example:9000 is needed", o.Endpoint)
		}
	}
	var keys *credentials.Credentials
	if o.Key != "" {
		keys = credentials.NewStaticV4(o.Key, o.Secret, "")
	} else {
		keys = credentials.NewChainCredentials([]credentials.Provider{&credentials.EnvAWS{}, &credentials.EnvMinio{}, &credentials.FileAWSCredentials{}, &credentials.IAM{Client: &http.Client{Timeout: 5 * time.Second}}})
	}
	transport, err := minio.DefaultTransport(endpoint.Scheme == "https")
	if err != nil {
		return nil, fmt.Errorf("S3: %w", err)
	}
	transport.ResponseHeaderTimeout = stalled
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := (&net.Dialer{Timeout: stalled}).DialContext(ctx, network, address)
		return limitedConn{c}, err
	}
	client, err := minio.New(endpoint.Host, &minio.Options{Creds: keys, Transport: transport, Secure: endpoint.Scheme == "https", Region: o.Region, MaxRetries: 2})
	if err != nil {
		return nil, fmt.Errorf("S3: %w", err)
	}
	s := &S3{client: client, bucket: u.Host, prefix: strings.Trim(u.Path, "/")}
	if s.prefix != "" {
		s.prefix += "/"
	}
	ok, err := client.BucketExists(ctx, s.bucket)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", s, err)
	}
	if !ok {
		return nil, fmt.Errorf("%v: there is no bucket %q", s, s.bucket)
	}
	return s, nil
}

// stalled is how long a server may say nothing in the middle of something.
const stalled = 8 * time.Second

// limitedConn is a connection on which a read or a write that stalls is an error.
type limitedConn struct{ net.Conn }

func (c limitedConn) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(stalled)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c limitedConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(stalled)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// OpenS3Environment is OpenS3 with the endpoint, region and keys of the environment.
func OpenS3Environment(ctx context.Context, place string) (*S3, error) {
	return OpenS3(ctx, S3Options{URL: place, Endpoint: os.Getenv("AWS_ENDPOINT_URL"), Region: os.Getenv("AWS_REGION")})
}

// String is the bucket's URL.
func (s *S3) String() string {
	return strings.TrimSuffix("s3://"+s.bucket+"/"+s.prefix, "/")
}

// Put writes an object and reads it back. A bucket has no way to write only where nothing is that all servers know; two
// workers that write different images under one name at the same moment are found by reading back.
func (s *S3) Put(ctx context.Context, name string, data []byte) error {
	want := hexSum(data)
	for tries := 0; ; tries++ {
		have, err := s.Sum(ctx, name)
		switch {
		case err == nil && have == want:
			return nil
		case err == nil && tries == 0:
			return &TakenError{name, s.String()}
		case err == nil:
			return damaged(name, s.String())
		case !errors.Is(err, ErrMissing):
			return err
		case tries > 0:
			return damaged(name, s.String())
		}
		o := minio.PutObjectOptions{ContentType: contentType(name), SendContentMd5: true, DisableMultipart: true}
		if _, err := s.client.PutObject(ctx, s.bucket, s.prefix+name, bytes.NewReader(data), int64(len(data)), o); err != nil {
			return fmt.Errorf("cannot write %s in %v: %w", name, s, err)
		}
	}
}

// Sum reads the object.
func (s *S3) Sum(ctx context.Context, name string) (string, error) {
	object, err := s.client.GetObject(ctx, s.bucket, s.prefix+name, minio.GetObjectOptions{})
	if err == nil {
		defer object.Close()
		sum := sha256.New()
		if _, err = io.Copy(sum, object); err == nil {
			return hex.EncodeToString(sum.Sum(nil)), nil
		}
	}
	if minio.ToErrorResponse(err).Code == minio.NoSuchKey {
		return "", ErrMissing
	}
	return "", fmt.Errorf("cannot read %s in %v: %w", name, s, err)
}

func hexSum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func contentType(name string) string {
	switch path.Ext(name) {
	case ".jpg":
		return "image/jpeg"
	case ".webp":
		return "image/webp"
	}
	return "image/png"
}
