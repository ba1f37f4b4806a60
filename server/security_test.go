package server

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"darkroom/recipe"
	"darkroom/server/wire"
)

// send sends a request with headers, and gives the status and the answer.
func (s *testServer) send(method, path, body string, headers map[string]string) (int, string, http.Header) {
	s.t.Helper()
	r, err := http.NewRequest(method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for name, v := range headers {
		if r.Header.Set(name, v); name == "Host" {
			r.Host = v
		}
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response.StatusCode, string(data), response.Header
}

// A web page elsewhere reaches nothing: not by a name that it had point here, and not through the browser of somebody here.
func TestPagesElsewhere(t *testing.T) {
	s := start(t, Options{Security: Security{CORS: []string{"https://friend.example"}, Hosts: []string{"pictures.example"}}})
	for _, c := range []struct {
		method  string
		headers map[string]string
		want    int
	}{
		{"GET", nil, 200},
		{"GET", map[string]string{"Host": "evil.example"}, 421},
		{"GET", map[string]string{"Host": "evil.example:7860"}, 421},
		{"GET", map[string]string{"Host": "localhost:7860"}, 200},
		{"GET", map[string]string{"Host": "192.168.1.5:7860"}, 200},
		{"GET", map[string]string{"Host": "[::1]:7860"}, 200},
		{"GET", map[string]string{"Host": "Pictures.example."}, 200},
		{"GET", map[string]string{"Host": "localhost.evil.example"}, 421},
		{"POST", nil, 422},
		{"POST", map[string]string{"Origin": "https://evil.example"}, 403},
		{"POST", map[string]string{"Origin": "null"}, 403},
		{"POST", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		{"POST", map[string]string{"Sec-Fetch-Site": "same-origin"}, 422},
		{"POST", map[string]string{"Origin": "https://friend.example", "Sec-Fetch-Site": "cross-site"}, 422},
		{"POST", map[string]string{"Origin": s.url}, 422},
		{"POST", map[string]string{"Origin": "https://friend.example.evil.example"}, 403},
	} {
		path := map[string]string{"GET": "/v1/models", "POST": "/sdapi/v1/txt2img"}[c.method]
		status, text, _ := s.send(c.method, path, `{"steps":"many"}`, c.headers)
		if status != c.want {
			t.Errorf("%s with %v: status %d, want %d: %.200s", c.method, c.headers, status, c.want, text)
		}
	}
	_, _, h := s.send("OPTIONS", "/v1/images/generations", "", map[string]string{"Origin": "https://friend.example", "Access-Control-Request-Method": "POST"})
	if h.Get("Access-Control-Allow-Origin") != "https://friend.example" || !strings.Contains(h.Get("Access-Control-Allow-Headers"), "Authorization") {
		t.Errorf("a friend's preflight: %v", h)
	}
	if _, _, h = s.send("OPTIONS", "/v1/images/generations", "", map[string]string{"Origin": "https://evil.example"}); h.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("a stranger's preflight: %v", h)
	}
}

func TestKeys(t *testing.T) {
	s := start(t, Options{Security: Security{Key: "open sesame", Basic: "ada:lovelace"}})
	basic := func(text string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(text)) }
	for _, c := range []struct {
		path, auth string
		want       int
	}{
		{"/v1/models", "", 401}, {"/v1/models", "Bearer open sesame", 200}, {"/v1/models", "bearer open sesame", 200}, {"/v1/models", "Bearer ", 401},
		{"/v1/models", "Bearer open sesam", 401}, {"/v1/models", basic("ada:lovelace"), 200}, {"/v1/models", basic("ada:"), 401}, {"/v1/models", basic(":"), 401},
		{"/sdapi/v1/options", "", 401}, {"/sdapi/v1/options", basic("ada:lovelace"), 200}, {"/metrics", "", 401}, {"/healthz", "", 200}, {"/readyz", "", 200}, {"/", "", 200},
		{"/static/../v1/models", "", 401}, {"//v1/models", "", 401},
	} {
		headers := map[string]string{}
		if c.auth != "" {
			headers["Authorization"] = c.auth
		}
		if status, text, _ := s.send("GET", c.path, "", headers); status != c.want {
			t.Errorf("%s with %q: status %d, want %d: %.100s", c.path, c.auth, status, c.want, text)
		}
	}
	// The address of a picture opens that picture, and nothing else.
	status, text, _ := s.send("POST", "/v1/images/generations", `{"prompt":"a pear","steps":1,"response_format":"url"}`, map[string]string{"Authorization": "Bearer open sesame"})
	_, rest, ok := strings.Cut(text, `"url":"`)
	if status != 200 || !ok {
		t.Fatalf("%d: %s", status, text)
	}
	link, _, _ := strings.Cut(rest, `"`)
	path := strings.TrimPrefix(link, s.url)
	for p, want := range map[string]int{
		path: 200, strings.Split(path, "?")[0]: 401, strings.Replace(path, "/file", "/thumbnail", 1): 401, path[:len(path)-1] + "x": 401,
		"/v1/models?" + strings.Split(path, "?")[1]: 401,
	} {
		if status, _, _ := s.send("GET", p, "", nil); status != want {
			t.Errorf("%s: status %d, want %d", p, status, want)
		}
	}
}

func TestRate(t *testing.T) {
	s := start(t, Options{Security: Security{Rate: 2}})
	refused := 0
	for range 30 {
		if status, _, h := s.send("GET", "/v1/schedulers", "", nil); status == 429 {
			if refused++; h.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
		}
	}
	if refused < 15 || refused > 25 {
		t.Errorf("%d of 30 requests at once were refused, want about 22", refused)
	}
}

func TestListenAsksForCredentials(t *testing.T) {
	for _, c := range []struct {
		o    ListenOptions
		s    Security
		want string
	}{
		{ListenOptions{Address: "127.0.0.1:0"}, Security{}, ""},
		{ListenOptions{Address: "[::1]:0"}, Security{}, ""},
		{ListenOptions{Address: "localhost:0"}, Security{}, ""},
		{ListenOptions{Address: "0.0.0.0:0"}, Security{}, "--api-key"},
		{ListenOptions{Address: ":0"}, Security{}, "--api-key"},
		{ListenOptions{Address: "0.0.0.0:0"}, Security{Key: "x"}, ""},
		{ListenOptions{Address: "0.0.0.0:0", Insecure: true}, Security{}, ""},
		{ListenOptions{Address: "127.0.0.1:0", Cert: "x"}, Security{}, "--tls-key"},
		{ListenOptions{Address: "0.0.0.0:0", ClientCA: "x"}, Security{}, "--tls-cert"},
	} {
		l, err := Listen(c.o, &c.s)
		if l != nil {
			l.Close()
		}
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			if !strings.Contains(fmt.Sprint(err), "cannot assign requested address") { // no IPv6 here
				t.Errorf("%+v: %v, want %q", c.o, err, c.want)
			}
		}
	}
}

// No path from a request is opened, whatever setting or prompt it stands in.
func TestPathsAreRefused(t *testing.T) {
	s := start(t, Options{})
	secret := filepath.Join(t.TempDir(), "secret.safetensors")
	if err := os.WriteFile(secret, []byte("secret"), 0o666); err != nil {
		t.Fatal(err)
	}
	for i := range recipe.All() {
		row := &recipe.All()[i]
		if row.Kind != recipe.TextKind || row.OneText() || row.Choices != nil && !row.Open {
			continue
		}
		for _, text := range []string{secret, "../" + filepath.Base(secret), "upload:../jobs.jsonl", "picture:/etc/passwd", "upload:" + secret} {
			for _, value := range []string{text, "1.5:upscaler=" + text, text + ":0.5", "x=" + text} {
				status, answer, _ := s.send("POST", "/v1/jobs", fmt.Sprintf(`{"request":{"prompt":"x","steps":1,%q:%q}}`, row.JSON(), value), nil)
				if status < 400 || status >= 500 {
					t.Errorf("%s %q: status %d: %s", row.Name, value, status, answer)
				}
			}
		}
	}
	var j wire.Job
	s.want(201, "POST", "/v1/jobs", object{"request": object{"prompt": "x <lora:" + strings.TrimSuffix(secret, ".safetensors") + ":1> <lora:" + secret + ":1>", "steps": 1}}, &j)
	if j = s.ended(j.ID); j.State != wire.Done || len(j.Warnings) == 0 {
		t.Errorf("%+v", j)
	}
	for _, path := range []string{"/v1/pictures/..%2f..%2fetc%2fpasswd/file", "/v1/reports/..%2f..%2f/index.html", "/v1/reports/../../etc/passwd", "/static/..%2f..%2fgo.mod", "/v1/jobs/..%2f"} {
		if status, text, _ := s.send("GET", path, "", nil); status != 404 && status != 400 {
			t.Errorf("%s: status %d: %.100s", path, status, text)
		}
	}
}

// bomb is a PNG of a few kilobytes that claims a side of so many pixels.
func bomb(side uint32) []byte {
	var out bytes.Buffer
	out.WriteString("\x89PNG\r\n\x1a\n")
	chunk := func(kind string, data []byte) {
		binary.Write(&out, binary.BigEndian, uint32(len(data)))
		body := append([]byte(kind), data...)
		out.Write(body)
		binary.Write(&out, binary.BigEndian, crc32.ChecksumIEEE(body))
	}
	head := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, side), side)
	chunk("IHDR", append(head, 8, 2, 0, 0, 0))
	var z bytes.Buffer
	w := zlib.NewWriter(&z)
	w.Write(make([]byte, 4<<20))
	w.Close()
	chunk("IDAT", z.Bytes())
	chunk("IEND", nil)
	return out.Bytes()
}

func TestBombs(t *testing.T) {
	s := start(t, Options{MaxBody: 1 << 20})
	for _, side := range []uint32{8000, 30000, 1 << 31} {
		data := bomb(side)
		if status, text, _ := s.send("POST", "/v1/files", string(data), nil); status != 400 {
			t.Errorf("side %d: status %d: %.200s", side, status, text)
		}
		body := fmt.Sprintf(`{"prompt":"x","init_images":[%q]}`, base64.StdEncoding.EncodeToString(data))
		if status, text, _ := s.send("POST", "/sdapi/v1/img2img", body, nil); status != 422 {
			t.Errorf("side %d: status %d: %.200s", side, status, text)
		}
	}
	for _, path := range []string{"/v1/files", "/v1/inspect", "/v1/jobs", "/sdapi/v1/img2img", "/v1/images/edits", "/sdapi/v1/options"} {
		if status, _, _ := s.send("POST", path, strings.Repeat(" ", 2<<20), nil); status != 413 {
			t.Errorf("%s with 2 MiB: status %d", path, status)
		}
	}
	for body, field := range map[string]string{
		`{"request":{"prompt":"x","width":8192,"height":8192}}`:                    "size",
		`{"request":{"prompt":"x","steps":9999}}`:                                  "steps",
		`{"request":{"prompt":"x","hires":"8"},"priority":1}`:                      "",
		`{"request":{"prompt":"x","width":1024,"height":1024,"hires":"8"}}`:        "size",
		`{"request":{"prompt":"x","count":100000}}`:                                "count",
		`{"request":{"prompt":"` + strings.Repeat("x", 20000) + `"}}`:              "prompt",
		`{"request":{"prompt":"x","backend":"ref"}}`:                               "backend",
		`{"jobs":[{"prompt":"x","seed":"1..1000000"}]}`:                            "jobs",
		`{"jobs":[{"prompt":"x","model":"/etc/passwd"}]}`:                          "jobs",
		`{"request":{"prompt":"x","sigmas":"` + strings.Repeat("9,", 400) + `8"}}`: "sigmas",
		`{"request":{"prompt":"x"},"priority":1000}`:                               "priority",
		`{"request":{"prompt":"x","nonsense":1}}`:                                  "nonsense",
		`{"request":{}}`: "prompt", `{}`: "request", `[]`: "", `{"request":3}`: "", `{`: "",
	} {
		var out wire.ErrorBody
		r := s.do("POST", "/v1/jobs", body, &out)
		if strings.Contains(body, `"hires":"8"},`) {
			if r.StatusCode != 201 { // 8·128 pixels a side are taken
				t.Errorf("%s: status %d", body, r.StatusCode)
			}
			continue
		}
		if r.StatusCode != 400 || out.Error.Param != field || out.Error.Message == "" {
			t.Errorf("%.100s: status %d, %+v", body, r.StatusCode, out.Error)
		}
	}
}

// Clients that send nothing more are let go of, and others are answered meanwhile.
func TestHalfRequests(t *testing.T) {
	s := start(t, Options{})
	address := strings.TrimPrefix(s.url, "http://")
	for range 50 {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n{\"request\":")
	}
	begun := time.Now()
	s.want(200, "GET", "/v1/models", nil, nil)
	if d := time.Since(begun); d > 2*time.Second {
		t.Errorf("an answer beside half requests took %v", d)
	}
}
