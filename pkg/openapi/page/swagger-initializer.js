// Shows the document beside the page with Swagger UI.
window.onload = () => {
  // A request that shows its answer only when it ends cannot be tried while it streams.
  const noTryOfStreams = () => ({
    statePlugins: {
      spec: {
        wrapSelectors: {
          allowTryItOutFor: (original, system) => (state, path, method) => !system.specSelectors.specJson()
            .hasIn(['paths', path, method, 'responses', '200', 'content', 'text/event-stream']),
        },
      },
    },
  })
  window.ui = SwaggerUIBundle({
    url: '../openapi.json', // relative to the page, so that both may be served below a prefix
    dom_id: '#swagger-ui',
    deepLinking: true,
    docExpansion: 'list',
    defaultModelsExpandDepth: 0,
    validatorUrl: null,
    presets: [SwaggerUIBundle.presets.apis],
    plugins: [noTryOfStreams],
    layout: 'BaseLayout',
  })
}
