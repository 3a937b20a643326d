// Package openapi serves the OpenAPI document of a service, which tools/openapi generates, and the page that shows it.
package openapi

import (
	"bytes"
	"context"
	"embed"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"sync"

	"github.com/gin-gonic/gin"
	swaggerFiles "github.com/swaggo/files/v2"
	ginSwagger "github.com/swaggo/gin-swagger"
	"golang.org/x/net/webdav"

	"github.com/accrue/accrue/pkg/content"
)

// The paths of the document and of the page.
const (
	Path     = "/openapi.json"
	PagePath = "/docs"
)

// own are the parts of the page that are not Swagger UI's.
//
//go:embed page
var own embed.FS

// index is the page itself. Its parts lie beside it.
const index = "index.html"

// mediaTypes returns the page and all parts that it loads, with their media types. It needs no other server.
func mediaTypes() map[string]string {
	return map[string]string{
		index:                    "text/html; charset=utf-8",
		"index.css":              "text/css; charset=utf-8",
		"swagger-ui.css":         "text/css; charset=utf-8",
		"swagger-ui-bundle.js":   "text/javascript; charset=utf-8",
		"swagger-initializer.js": "text/javascript; charset=utf-8",
		"favicon-16x16.png":      "image/png",
		"favicon-32x32.png":      "image/png",
	}
}

// Register serves document, in JSON, at Path, and the page under the given title at PagePath.
func Register(routes gin.IRoutes, document []byte, title string) {
	methods := []string{http.MethodGet, http.MethodHead}
	routes.Match(methods, Path, answer(document))
	routes.Match(methods, PagePath, func(c *gin.Context) {
		c.Header("Location", path.Base(PagePath)+"/") // relative, so that it holds below a prefix
		c.Status(http.StatusFound)
	})
	read := parts(title)
	for name, mediaType := range mediaTypes() {
		body := sync.OnceValue(func() *content.Body { return content.Static(read(name)) })
		serve := func(c *gin.Context) { write(c, mediaType, body()) }
		routes.Match(methods, PagePath+"/"+name, serve)
		if name == index {
			routes.Match(methods, PagePath+"/", serve)
		}
	}
}

// write answers with a body that the client may keep, and revalidates each time.
func write(c *gin.Context, mediaType string, body *content.Body) {
	c.Header("Content-Type", mediaType)
	c.Header("Cache-Control", "no-cache")
	body.Serve(c.Writer, c.Request)
}

// answer answers with the document.
//
//	@Summary		This document
//	@Description	The service's own OpenAPI 3.0 document, as Swagger UI shows it at `/docs`.
//	@ID				getDocument
//	@Tags			documentation
//	@Param			If-None-Match	header	string	false	"The ETag of an earlier answer: if it still holds, the answer is a 304 without a body."
//	@Produce		json
//	@Success		200	{object}	object	"An OpenAPI 3.0 document."
//	@Success		304	"The document is the one of the given ETag."
//	@Failure		431	"The header of the request is larger than 64 KiB."
//	@Header			200,304	{string}	ETag	"Names this version of the document. It is weak for a compressed answer."
//	@x-example-200	{"openapi":"3.0.3","info":{"title":"Accrue","version":"1"},"paths":{}}
//	@x-example-etag	"\"1f2e3d4c5b6a7980\""
//	@Router			/openapi.json [get]
func answer(document []byte) gin.HandlerFunc {
	body := content.Static(document)
	return func(c *gin.Context) { write(c, "application/json", body) }
}

// parts returns a function that reads the page or one of its parts: one of our own, or gin-swagger's.
func parts(title string) func(name string) []byte {
	engine := gin.New()
	engine.GET("/:name", ginSwagger.CustomWrapHandler(&ginSwagger.Config{Title: title},
		&webdav.Handler{FileSystem: swaggerUI{}, LockSystem: webdav.NewMemLS()}))
	return func(name string) []byte {
		if body, err := own.ReadFile("page/" + name); err == nil {
			return body
		}
		request := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/" + name}, RequestURI: "/" + name, Header: http.Header{}}
		answer := &recorder{header: http.Header{}}
		engine.ServeHTTP(answer, request)
		if name == index {
			return adapted(answer.Bytes())
		}
		return answer.Bytes()
	}
}

// adapted returns gin-swagger's page with a viewport, without which phones show it tiny, and without the script of the bar
// above the document.
func adapted(page []byte) []byte {
	page = bytes.Replace(page, []byte(`<meta charset="UTF-8">`),
		[]byte(`<meta charset="UTF-8"><meta name="viewport" content="width=device-width, initial-scale=1">`), 1)
	return bytes.Replace(page, []byte(`<script src="./swagger-ui-standalone-preset.js"> </script>`), nil, 1)
}

// swaggerUI is the files of Swagger UI, to be read.
type swaggerUI struct {
	webdav.FileSystem // nil: a GET calls OpenFile alone
}

// OpenFile opens a file.
func (swaggerUI) OpenFile(_ context.Context, name string, _ int, _ os.FileMode) (webdav.File, error) {
	f, err := http.FS(swaggerFiles.FS).Open(name)
	return struct {
		http.File
		io.Writer
	}{File: f}, err
}

// recorder keeps the body of an answer.
type recorder struct {
	bytes.Buffer
	header http.Header
}

func (r *recorder) Header() http.Header { return r.header }
func (r *recorder) WriteHeader(int)     {}
