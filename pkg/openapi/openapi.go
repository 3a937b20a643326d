// Package openapi serves the OpenAPI document of a service, which tools/openapi generates, and the page that shows it.
package openapi

import (
	"bytes"
	"embed"
	"html"
	"io/fs"
	"net/http"
	"path"
	"sync"

	"github.com/gin-gonic/gin"
	swaggerFiles "github.com/swaggo/files/v2"

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
	for name, mediaType := range mediaTypes() {
		body := sync.OnceValue(func() *content.Body { return content.Static(part(name, title)) })
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

// part reads the page, which gets the title, or one of its parts: one of our own, or Swagger UI's.
func part(name, title string) []byte {
	if name == index {
		return bytes.ReplaceAll(read(own, "page/"+name), []byte("TITLE"), []byte(html.EscapeString(title)))
	}
	if body := read(own, "page/"+name); body != nil {
		return body
	}
	return read(swaggerFiles.FS, name)
}

// read returns an embedded file, or nil if there is none.
func read(files fs.FS, name string) []byte {
	body, err := fs.ReadFile(files, name)
	if err != nil {
		return nil
	}
	return body
}
